//! What determines a training run besides its data and first weights.

use burn::tensor::DType;
use burn::tensor::backend::Backend;
use fused_ops::Precision;
use gptneox_model::Compute;
use schedule::{LrSchedule, LrSpec};
use serde::{Deserialize, Serialize};

use crate::Error;

/// Which parameters decay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecayGroup {
    /// All of them (LitGPT, the paper).
    #[default]
    All,
    /// Matrices, embeddings included; not biases and norms.
    Matrices,
}

/// AdamW's constants.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdamWSpec {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// What decays.
    pub decay: DecayGroup,
    /// Parameters with a decay or a rate of their own, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<ParameterGroup>,
}

/// Parameters that are updated in another way than the rest.
///
/// ```
/// use trainer::ParameterGroup;
/// // No decay of norms and biases.
/// let group = ParameterGroup { weight_decay: 0.0, ..ParameterGroup::of(&["*.bias", "*layernorm*", "*layer_norm*"]) };
/// assert_eq!(group.lr_ratio, 1.0);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ParameterGroup {
    /// Names in a Hugging Face checkpoint, where `*` stands for any text: the first group that a name fits is the parameter's.
    pub names: Vec<String>,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// The learning rate, as a multiple of the step's.
    #[serde(default = "one")]
    pub lr_ratio: f64,
}

fn one() -> f64 {
    1.0
}

impl ParameterGroup {
    /// Parameters of these names, with the usual decay and rate.
    pub fn of(names: &[&str]) -> Self {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        Self { names, weight_decay: AdamWSpec::default().weight_decay, lr_ratio: 1.0 }
    }

    fn fits(&self, name: &str) -> bool {
        self.names.iter().any(|pattern| fits(pattern, name))
    }
}

/// Whether a name is a pattern's, in which `*` stands for any text.
fn fits(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

/// How one parameter is updated.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rule {
    pub(crate) weight_decay: f64,
    pub(crate) lr_ratio: f64,
}

impl AdamWSpec {
    /// How each parameter is updated, by name and shape.
    ///
    /// # Errors
    /// A name of a group that no parameter has.
    pub(crate) fn rules(&self, parameters: &[(String, Vec<usize>)]) -> Result<Vec<Rule>, Error> {
        for pattern in self.groups.iter().flat_map(|group| &group.names) {
            if !parameters.iter().any(|(name, _)| fits(pattern, name)) {
                let limit = "is the name of no parameter of the model".to_owned();
                return Err(Error::Field { field: "optimizer.groups.names", value: pattern.clone(), limit });
            }
        }
        let rule = |(name, shape): &(String, Vec<usize>)| {
            let decays = self.decay == DecayGroup::All || shape.len() > 1;
            match self.groups.iter().find(|group| group.fits(name)) {
                Some(group) => Rule { weight_decay: group.weight_decay, lr_ratio: group.lr_ratio },
                None => Rule { weight_decay: if decays { self.weight_decay } else { 0.0 }, lr_ratio: 1.0 },
            }
        };
        Ok(parameters.iter().map(rule).collect())
    }
}

impl Default for AdamWSpec {
    /// The paper's (Table 4), eps as PyTorch.
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1, decay: DecayGroup::All, groups: Vec::new() }
    }
}

/// The recipe of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainSpec {
    /// Learning rate by step.
    pub lr: LrSpec,
    /// The optimiser.
    pub optimizer: AdamWSpec,
    /// Largest global gradient norm.
    pub clip: f64,
    /// Most tokens of a micro-batch; the global batch does not depend on it.
    pub micro_tokens: usize,
    /// How many of the last [`skip_window`](Self::skip_window) steps may be skipped because their loss or gradient is not finite. (As
    /// many as the window has: the run never ends for it.)
    pub max_skipped: u64,
    /// Steps among which skipped ones are counted.
    #[serde(default = "skip_window")]
    pub skip_window: u64,
    /// What matrix products are computed in; parameters and optimiser state are f32 either way.
    #[serde(default)]
    pub precision: Precision,
    /// Whether each block's inner activations are computed again in the backward pass instead of kept.
    #[serde(default)]
    pub recompute: bool,
}

/// As many as a run that goes well can spare: 1 % of them at the default of 10.
fn skip_window() -> u64 {
    1000
}

impl TrainSpec {
    /// The defaults with a learning rate.
    pub fn new(lr: LrSpec) -> Self {
        Self {
            lr,
            optimizer: AdamWSpec::default(),
            clip: 1.0,
            micro_tokens: 8192,
            max_skipped: 10,
            skip_window: skip_window(),
            precision: Precision::F32,
            recompute: false,
        }
    }

    /// How the model computes under it.
    pub fn compute(&self) -> Compute {
        Compute { precision: self.precision, recompute: self.recompute }
    }

    /// Checks that a backend has the types that it computes in.
    pub(crate) fn check_backend<B: Backend>(&self, device: &B::Device) -> Result<(), Error> {
        if self.precision == Precision::Bf16 && !B::supports_dtype(device, DType::BF16) {
            let limit = format!("is unavailable on the backend {}", B::name(device));
            return Err(Error::Field { field: "precision", value: "bf16".to_owned(), limit });
        }
        Ok(())
    }

    /// Checks every field.
    ///
    /// # Errors
    /// The first outside its limits.
    pub fn validate(&self) -> Result<(), Error> {
        self.build().map(|_| ())
    }

    /// Checks every field; the learning rate's curve.
    pub(crate) fn build(&self) -> Result<LrSchedule, Error> {
        let o = &self.optimizer;
        let field =
            |field, value: f64, limit: &str| Error::Field { field, value: value.to_string(), limit: limit.into() };
        for (name, beta) in [("beta1", o.beta1), ("beta2", o.beta2)] {
            if !(0.0..1.0).contains(&beta) {
                return Err(field(name, beta, "must be from 0 to below 1"));
            }
        }
        for (name, value) in [("eps", o.eps), ("clip", self.clip)] {
            if !(value.is_finite() && value > 0.0) {
                return Err(field(name, value, "must be positive"));
            }
        }
        if !(o.weight_decay.is_finite() && o.weight_decay >= 0.0) {
            return Err(field("weight_decay", o.weight_decay, "must not be negative"));
        }
        if self.micro_tokens == 0 {
            return Err(field("micro_tokens", 0.0, "must be at least 1"));
        }
        if self.skip_window == 0 {
            return Err(field("skip_window", 0.0, "must be at least 1"));
        }
        for group in &o.groups {
            for (name, value) in [("groups.weight_decay", group.weight_decay), ("groups.lr_ratio", group.lr_ratio)] {
                if !(value.is_finite() && value >= 0.0) {
                    return Err(field(name, value, "must not be negative"));
                }
            }
        }
        Ok(self.lr.clone().build()?)
    }
}

/// A field of a [`TrainSpec`] in which a run may be continued with another value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// `lr`: from the checkpoint's step on the rates are others, as after a run that diverged.
    Lr,
    /// `optimizer`: its constants; the moments stay.
    Optimizer,
    /// `clip`.
    Clip,
    /// `micro_tokens`: the same sums in another order.
    MicroTokens,
    /// `precision`.
    Precision,
}

impl Change {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Lr, Self::Optimizer, Self::Clip, Self::MicroTokens, Self::Precision];

    /// The field's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lr => "lr",
            Self::Optimizer => "optimizer",
            Self::Clip => "clip",
            Self::MicroTokens => "micro_tokens",
            Self::Precision => "precision",
        }
    }
}

impl std::str::FromStr for Change {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|change| change.name() == name).ok_or_else(|| {
            let known = Self::ALL.map(Self::name).join(", ");
            let limit = format!("is no field that may change; must be one of {known}");
            Error::Field { field: "allowed change", value: name.to_owned(), limit }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_whole_names() {
        for (pattern, name, expected) in [
            ("a.bias", "a.bias", true),
            ("a.bias", "a.bias2", false),
            ("*.bias", "x.y.bias", true),
            ("*.bias", "x.biases", false),
            ("gpt*norm*", "gpt_neox.final_layer_norm.weight", true),
            ("*ab*ab", "xabab", true),
            ("*ab*ab", "xab", false),
            ("*", "", true),
            ("", "a", false),
        ] {
            assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn groups_are_by_name_and_the_rest_is_as_before() {
        let parameters = [("a.weight".to_owned(), vec![2, 2]), ("a.bias".to_owned(), vec![2])];
        let group = ParameterGroup { lr_ratio: 0.5, weight_decay: 0.0, ..ParameterGroup::of(&["*.bias"]) };
        let spec = AdamWSpec { groups: vec![group], ..AdamWSpec::default() };
        let [weight, bias] = spec.rules(&parameters).unwrap()[..] else { panic!("two rules") };
        assert_eq!(weight, Rule { weight_decay: 0.1, lr_ratio: 1.0 });
        assert_eq!(bias, Rule { weight_decay: 0.0, lr_ratio: 0.5 });
        let unknown = AdamWSpec { groups: vec![ParameterGroup::of(&["b.*"])], ..AdamWSpec::default() };
        assert!(unknown.rules(&parameters).unwrap_err().to_string().contains("b.* is the name of no parameter"));
        // What was written before there were groups reads, and is written as it was.
        let text = serde_json::to_string(&AdamWSpec::default()).unwrap();
        assert!(!text.contains("groups"), "{text}");
    }
}
