//! A Hugging Face `config.json`: the model it describes, and what else it says, in every spelling that transformers 5.24 reads.
//!
//! A field that is absent has transformers' default. A field that changes what is computed, and that this crate does not compute,
//! is an error with the field's name; any other is kept, and carried through to the folder that a model is written to.

use fused_ops::Gelu;
use serde_json::{Map, Value, json};

use crate::{Error, GptNeoXConfig, RopeScaling};

/// Fields of a `config.json` that the model's own sizes are written to.
const OWN: [&str; 17] = [
    "model_type",
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
    "layer_norm_eps",
    "use_parallel_residual",
    "tie_word_embeddings",
    "hidden_act",
    "attention_bias",
    "rotary_pct",
    "rotary_emb_base",
    "rope_scaling",
    "rope_parameters",
    "dtype",
];
/// The type of the weights as older files call it, which every version of transformers reads.
const TORCH_DTYPE: &str = "torch_dtype";

/// What a checkpoint's folder says beside its model: special tokens, how text is generated, fields that change no number. A model
/// that is read and written again keeps it.
///
/// ```
/// use gptneox_model::Metadata;
/// assert_eq!(Metadata::with_end_token(7).end_tokens(), Some(vec![7]));
/// assert_eq!(Metadata::default().end_tokens(), None);
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metadata {
    /// The rest of `config.json`.
    config: Map<String, Value>,
    /// `generation_config.json`, where there is one.
    generation: Option<Map<String, Value>>,
    /// The type in which transformers is to load the weights; that in which they are stored where nothing is said.
    dtype: Option<String>,
}

impl Metadata {
    /// Of a model whose documents begin and end with a token.
    pub fn with_end_token(id: u32) -> Self {
        let tokens: Map<String, Value> =
            ["bos_token_id", "eos_token_id"].into_iter().map(|name| (name.to_owned(), json!(id))).collect();
        Self { config: tokens.clone(), generation: Some(tokens), dtype: None }
    }

    /// Of a `config.json` and a `generation_config.json`.
    pub(crate) fn new(config: &Map<String, Value>, generation: Option<Map<String, Value>>) -> Result<Self, Error> {
        for fields in [Some(config), generation.as_ref()].into_iter().flatten() {
            for name in ["bos_token_id", "eos_token_id"] {
                let ids = match fields.get(name) {
                    None | Some(Value::Null) => continue,
                    Some(Value::Array(ids)) => ids.as_slice(),
                    Some(id) => std::slice::from_ref(id),
                };
                if let Some(other) = ids.iter().find(|id| !(id.is_i64() || id.is_u64())) {
                    return Err(Error::config(name, other, "must be a whole number, a list of them, or null"));
                }
            }
        }
        let own = |name: &str| OWN.contains(&name) || name == TORCH_DTYPE;
        let rest = config.iter().filter(|(name, _)| !own(name));
        // transformers takes the newer name where both are there.
        let dtype = ["dtype", TORCH_DTYPE].into_iter().find_map(|name| config.get(name)?.as_str().map(str::to_owned));
        Ok(Self { config: rest.map(|(name, value)| (name.clone(), value.clone())).collect(), generation, dtype })
    }

    /// The same, loaded in the type in which the weights are stored.
    #[must_use]
    pub fn with_dtype_of_weights(self) -> Self {
        Self { dtype: None, ..self }
    }

    /// The tokens that end a text, any of them: those of `generation_config.json`, or where there is none of `config.json`, as
    /// transformers takes them. Empty where it is said that none does (a list without ids, or an id below 0); `None` where nothing is
    /// said.
    pub fn end_tokens(&self) -> Option<Vec<u32>> {
        let fields = self.generation.as_ref().unwrap_or(&self.config);
        let ids = fields.get("eos_token_id").filter(|value| !value.is_null())?.clone();
        let ids = if let Value::Array(ids) = ids { ids } else { vec![ids] };
        Some(ids.iter().filter_map(|id| u32::try_from(id.as_u64()?).ok()).collect())
    }

    /// A probability of dropout that is not 0, with its field's name: evaluation does not use it, and training here has none.
    pub fn dropout(&self) -> Option<(&'static str, f64)> {
        ["attention_dropout", "hidden_dropout"].into_iter().find_map(|name| {
            let share = self.config.get(name)?.as_f64()?;
            (share != 0.0).then_some((name, share))
        })
    }

    /// `generation_config.json`, where there is to be one.
    pub(crate) fn generation(&self) -> Option<&Map<String, Value>> {
        self.generation.as_ref()
    }

    /// `config.json` of a model whose weights are stored in a type: in the old spelling, which every version of transformers reads.
    pub(crate) fn config_of(&self, model: &GptNeoXConfig, dtype: &str) -> Value {
        let mut fields = self.config.clone();
        // Absent ones would be transformers' defaults, 0 and 2.
        for name in ["bos_token_id", "eos_token_id"] {
            fields.entry(name).or_insert(Value::Null);
        }
        let architectures = fields.entry("architectures").or_insert(Value::Null);
        if architectures.is_null() {
            *architectures = json!(["GPTNeoXForCausalLM"]);
        }
        let own = json!({
            "model_type": "gpt_neox",
            "vocab_size": model.vocab_size,
            "hidden_size": model.hidden_size,
            "num_hidden_layers": model.num_layers,
            "num_attention_heads": model.num_heads,
            "intermediate_size": model.intermediate_size,
            "max_position_embeddings": model.max_positions,
            "layer_norm_eps": model.layer_norm_eps,
            "use_parallel_residual": model.parallel_residual,
            "tie_word_embeddings": model.tie_embeddings,
            "hidden_act": if model.tanh_gelu { "gelu_fast" } else { "gelu" },
            "attention_bias": true,
            "rotary_pct": model.rotary_pct,
            "rotary_emb_base": model.rotary_base,
            TORCH_DTYPE: self.dtype.as_deref().unwrap_or(dtype),
        });
        if let Value::Object(own) = own {
            fields.extend(own);
        }
        if let Some(scaling) = model.rope_scaling {
            let (name, factor) = match scaling {
                RopeScaling::Linear { factor } => ("linear", factor),
                RopeScaling::Dynamic { factor } => ("dynamic", factor),
            };
            fields.insert("rope_scaling".to_owned(), json!({ "type": name, "rope_type": name, "factor": factor }));
        }
        Value::Object(fields)
    }
}

/// The model that a `config.json` describes.
///
/// # Errors
/// The first field that is malformed, outside its limits, or asks for what this crate does not compute.
pub fn parse_config(config: &Value) -> Result<GptNeoXConfig, Error> {
    let fields = Fields::of(config)?;
    let model_type = fields.text("model_type", "missing")?;
    if model_type != "gpt_neox" {
        return Err(Error::config("model_type", model_type, "must be gpt_neox"));
    }
    if !fields.switch("attention_bias", true)? {
        return Err(Error::config("attention_bias", false, "is not supported: GPT-NeoX's projections have biases"));
    }
    // What transformers would read, and this crate does not.
    for name in ["quantization_config", "head_dim", "transformers_weights", "layer_types", "per_layer_config"] {
        if fields.get(name).is_some() {
            return Err(Error::config(name, "given", "is not supported"));
        }
    }
    let Rotary { pct: (pct_from, rotary_pct), base: (base_from, rotary_base), scaling: rope_scaling } =
        rotary(&fields)?;
    let config = GptNeoXConfig {
        vocab_size: fields.size("vocab_size", 50_432)?,
        hidden_size: fields.size("hidden_size", 6144)?,
        num_layers: fields.size("num_hidden_layers", 44)?,
        num_heads: fields.size("num_attention_heads", 64)?,
        intermediate_size: fields.size("intermediate_size", 24_576)?,
        max_positions: fields.size("max_position_embeddings", 2048)?,
        rotary_pct,
        rotary_base,
        layer_norm_eps: fields.number("layer_norm_eps", 1e-5)?,
        parallel_residual: fields.switch("use_parallel_residual", true)?,
        tanh_gelu: activation(&fields)? == Gelu::Tanh,
        tie_embeddings: fields.switch("tie_word_embeddings", false)?,
        rope_scaling,
    };
    config.validate().map_err(|error| in_its_words(error, pct_from, base_from))?;
    Ok(config)
}

/// A limit of this crate's field, said of Hugging Face's.
fn in_its_words(error: Error, pct_from: &'static str, base_from: &'static str) -> Error {
    let Error::Config { field, value, limit } = error else { return error };
    let field = match field {
        "num_layers" => "num_hidden_layers",
        "num_heads" => "num_attention_heads",
        "max_positions" => "max_position_embeddings",
        "rotary_pct" => pct_from,
        "rotary_base" => base_from,
        other => other,
    };
    Error::Config { field, value, limit }
}

/// The activation by transformers' names of its two forms.
fn activation(fields: &Fields<'_>) -> Result<Gelu, Error> {
    match fields.text("hidden_act", "gelu")?.as_str() {
        "gelu" | "gelu_python" => Ok(Gelu::Exact),
        "gelu_fast" | "gelu_new" | "gelu_pytorch_tanh" | "gelu_python_tanh" | "gelu_accurate" => Ok(Gelu::Tanh),
        other => {
            let known = "is not supported; must be gelu, gelu_python, gelu_fast, gelu_new, gelu_pytorch_tanh, gelu_python_tanh or \
                         gelu_accurate";
            Err(Error::config("hidden_act", other, known))
        }
    }
}

/// Share of the features that rotate, base, and scaling; each with the field that says it.
struct Rotary {
    pct: (&'static str, f64),
    base: (&'static str, f64),
    scaling: Option<RopeScaling>,
}

/// What is said of rotary embeddings.
///
/// 1. `rope_scaling` is taken before `rope_parameters`, unless it is null or empty.
/// 2. Its `rope_theta` and `partial_rotary_factor` are taken before `rotary_emb_base` and `rotary_pct`.
/// 3. Its type is `rope_type`, or else `type`, or else default.
fn rotary(fields: &Fields<'_>) -> Result<Rotary, Error> {
    let mut pct = ("rotary_pct", fields.number("rotary_pct", 0.25)?);
    let mut base = ("rotary_emb_base", fields.number("rotary_emb_base", 10_000.0)?);
    const NAMES: [[&str; 5]; 2] = [
        [
            "rope_scaling",
            "rope_scaling.rope_type",
            "rope_scaling.factor",
            "rope_scaling.partial_rotary_factor",
            "rope_scaling.rope_theta",
        ],
        [
            "rope_parameters",
            "rope_parameters.rope_type",
            "rope_parameters.factor",
            "rope_parameters.partial_rotary_factor",
            "rope_parameters.rope_theta",
        ],
    ];
    let given = NAMES.into_iter().find_map(|names| {
        let value = fields.get(names[0])?;
        value.as_object().is_none_or(|object| !object.is_empty()).then_some((names, value))
    });
    let Some(([name, of_type, of_factor, of_pct, of_base], value)) = given else {
        return Ok(Rotary { pct, base, scaling: None });
    };
    let Value::Object(rope) = value else { return Err(Error::config(name, value, "must be an object")) };
    let rope = Fields(rope);
    if rope.0.contains_key("partial_rotary_factor") {
        pct = (of_pct, rope.number("partial_rotary_factor", 0.25)?);
    }
    if rope.0.contains_key("rope_theta") {
        base = (of_base, rope.number("rope_theta", 10_000.0)?);
    }
    let kind = if rope.0.contains_key("rope_type") {
        rope.text("rope_type", "default")?
    } else {
        rope.text("type", "default")?
    };
    let factor = || match rope.get("factor").and_then(Value::as_f64) {
        Some(factor) if factor.is_finite() && factor > 0.0 => Ok(factor),
        _ => {
            let given = rope.get("factor").map_or_else(|| "missing".to_owned(), Value::to_string);
            Err(Error::config(of_factor, given, format!("must be a positive number for type {kind}")))
        }
    };
    let scaling = match kind.as_str() {
        "default" => None,
        "linear" => Some(RopeScaling::Linear { factor: factor()? }),
        "dynamic" => Some(RopeScaling::Dynamic { factor: factor()? }),
        other => return Err(Error::config(of_type, other, "is not supported; must be default, linear or dynamic")),
    };
    Ok(Rotary { pct, base, scaling })
}

/// A JSON object's fields by type.
struct Fields<'a>(&'a Map<String, Value>);

impl<'a> Fields<'a> {
    fn of(value: &'a Value) -> Result<Self, Error> {
        let object = value.as_object().ok_or_else(|| Error::config("config", value, "must be an object"))?;
        Ok(Self(object))
    }

    /// A field that is there and not null.
    fn get(&self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// A field through `read`; the default where it is absent. (null is no size, no number and no switch for transformers either.)
    fn typed<T>(
        &self,
        name: &'static str,
        default: T,
        kind: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<T, Error> {
        match self.0.get(name) {
            None => Ok(default),
            Some(value) => read(value).ok_or_else(|| Error::config(name, value, format!("must be {kind}"))),
        }
    }

    fn size(&self, name: &'static str, default: usize) -> Result<usize, Error> {
        self.typed(name, default, "a whole number", |v| usize::try_from(v.as_u64()?).ok())
    }

    fn number(&self, name: &'static str, default: f64) -> Result<f64, Error> {
        self.typed(name, default, "a number", Value::as_f64)
    }

    fn switch(&self, name: &'static str, default: bool) -> Result<bool, Error> {
        self.typed(name, default, "true or false", Value::as_bool)
    }

    fn text(&self, name: &'static str, default: &str) -> Result<String, Error> {
        self.typed(name, default.to_owned(), "a text", |v| v.as_str().map(str::to_owned))
    }
}
