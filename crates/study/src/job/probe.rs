//! Comparing the representations of model states on a probe's documents.

use burn::tensor::{Int, Tensor, TensorData};
use fused_ops::{FusedOps, Precision, TrainingBackend};
use gptneox_model::{Compute, GptNeoX, Site};
use metrics_cka::{
    Activations, CkaOptions, Device, Host, Jackknifed, Layer, Matrix, Products, Recorder, Report, States, Treatment,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::tokens::Content;
use super::{Context, Cost, Input, Kind, Model};
use crate::Error;
use crate::address::Address;

/// Most bytes of all sums and collected examples. (It decides how many passes there are and up to how many examples Gram matrices are
/// used, hence last digits: whoever changes it raises the version.)
const MEMORY: u64 = 4 << 30;

/// Compares model states in pairs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Probe {
    /// What messages call it.
    pub(crate) label: String,
    /// The states: name, model.
    pub(crate) states: Vec<(String, Model)>,
    /// Which of them are compared.
    pub(crate) pairs: Vec<(usize, usize)>,
    /// The probe's text.
    pub(crate) tokens: Content,
    /// Documents of it, at most.
    pub(crate) documents: u64,
    /// Seed of the documents drawn.
    pub(crate) seed: u64,
    /// Most tokens of a document.
    pub(crate) longest: usize,
    /// Groups of documents for intervals, at most.
    pub(crate) groups: usize,
    /// What is done to features.
    pub(crate) treatments: Vec<Treatment>,
    /// Most tokens of a forward pass.
    pub(crate) micro_tokens: usize,
    /// What matrix products are computed in.
    pub(crate) precision: Precision,
    /// The class of matrix kernels; `None` where the study takes any.
    pub(crate) kernels: Option<String>,
    /// What it is expected to take.
    #[serde(default)]
    pub(crate) cost: Cost,
}

/// What was compared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ProbeResult {
    /// The states' names.
    pub(crate) states: Vec<String>,
    /// Each pair of them.
    pub(crate) comparisons: Vec<StateComparison>,
    /// Documents read.
    pub(crate) documents: u64,
    /// Tokens compared.
    pub(crate) tokens: u64,
}

/// CKA between the layers of two states.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct StateComparison {
    /// One state, an index: rows.
    pub(crate) left: usize,
    /// The other: columns.
    pub(crate) right: usize,
    /// The result.
    pub(crate) report: Report,
    /// By treatment and layer: debiased CKA of the layer with that of the same name in the other state, and what it is
    /// without each group of documents. For differences between pairs of states.
    pub(crate) same_layer: Vec<Vec<Option<Jackknifed>>>,
}

/// Neighbouring documents of one group that pass through the models together.
struct Chunk<'a> {
    documents: &'a [Vec<i32>],
    group: usize,
}

/// Cuts documents into chunks of at most so many tokens, padding included, none of two groups.
fn chunks(documents: &[Vec<i32>], groups: usize, micro_tokens: usize) -> Vec<Chunk<'_>> {
    let group = |d: usize| d * groups / documents.len();
    let mut out = Vec::new();
    let mut from = 0;
    while from < documents.len() {
        let mut to = from;
        let mut longest = 0;
        while to < documents.len() && group(to) == group(from) {
            longest = longest.max(documents[to].len());
            if to > from && longest * (to + 1 - from) > micro_tokens {
                break;
            }
            to += 1;
        }
        out.push(Chunk { documents: &documents[from..to], group: group(from) });
        from = to;
    }
    out
}

impl Kind for Probe {
    const NAME: &'static str = "probe";
    const VERSION: u32 = 2;
    type Output = ProbeResult;

    fn address(&self) -> Address {
        let identity = json!({
            "states": self.states.iter().map(|(_, model)| model.address()).collect::<Vec<_>>(),
            "pairs": self.pairs,
            "tokens": self.tokens.digest,
            "documents": self.documents,
            "seed": self.seed,
            "longest": self.longest,
            "groups": self.groups,
            "treatments": self.treatments,
            "micro_tokens": self.micro_tokens,
            "precision": self.precision,
            "kernels": self.kernels,
        });
        Self::identified_by(&identity)
    }

    fn label(&self) -> String {
        self.label.clone()
    }

    fn inputs(&self) -> Vec<Input> {
        let models = self.states.iter().map(|(_, model)| model.input());
        models.chain(self.tokens.inputs()).collect()
    }

    fn cost(&self) -> Cost {
        self.cost.clone()
    }

    fn kernels(&self) -> Option<&str> {
        self.kernels.as_deref()
    }

    fn run<AB: TrainingBackend>(&self, cx: &mut Context<'_, AB>) -> Result<Self::Output, Error> {
        // GPUs multiply faster than states travel.
        let products: std::sync::Arc<dyn Products<f32>> = match cx.machine.backend.as_str() {
            "cuda" | "vulkan" => std::sync::Arc::new(Device::<AB::InnerBackend>::with_product(
                cx.device.clone(),
                fused_ops::transposed_product,
            )),
            _ => std::sync::Arc::new(Host),
        };
        self.compare::<AB>(products, cx)
    }
}

impl Probe {
    /// The documents' tokens.
    fn read(&self, store: &crate::store::Store) -> Result<Vec<Vec<i32>>, Error> {
        let tokens = self.tokens.open(store)?;
        let drawn = metrics_proximity::sample_documents(tokens.document_count(), self.documents, self.seed);
        let document = |document: &u64| {
            let mut ids = tokens.document(*document)?;
            ids.truncate(self.longest);
            Ok(ids.into_iter().map(|id| id as i32).collect())
        };
        drawn.iter().map(document).collect()
    }

    /// Every state reads every document once for each pass that the comparisons' memory asks for.
    fn compare<AB: TrainingBackend>(
        &self,
        products: std::sync::Arc<dyn Products<f32>>,
        cx: &mut Context<'_, AB>,
    ) -> Result<ProbeResult, Error> {
        let documents = self.read(cx.store)?;
        if documents.is_empty() {
            return Err(Error::field("documents of the probe", 0, "must be at least 1"));
        }
        let groups = self.groups.min(documents.len());
        let compute = Compute { precision: self.precision, ..Compute::default() };
        let load = |(_, model): &(String, Model)| -> Result<GptNeoX<AB::InnerBackend>, Error> {
            Ok(model.load::<AB::InnerBackend>(cx.store, cx.device)?.with_compute(compute))
        };
        let models = self.states.iter().map(load).collect::<Result<Vec<_>, _>>()?;
        let layouts: Vec<Vec<Layer>> = models.iter().map(layout).collect();
        let options = CkaOptions {
            treatments: self.treatments.clone(),
            groups,
            memory: MEMORY,
            products,
            ..CkaOptions::default()
        };
        let mut states = States::new(&layouts, &self.pairs, options)?;
        let passes = states.passes_left().max(1);
        let mut pass = 0;
        while states.begin_pass() {
            pass += 1;
            let mut read = 0;
            for chunk in chunks(&documents, groups, self.micro_tokens) {
                cx.report.check()?;
                let done = read as f64 / documents.len() as f64 / passes as f64 + (pass - 1) as f64 / passes as f64;
                cx.report.advanced(done, || format!("{}: document {read} of {}", self.label, documents.len()));
                read += chunk.documents.len();
                let of_models: Vec<Activations<f32>> =
                    models.iter().map(|m| states_of(m, chunk.documents, cx.device)).collect();
                states.push(&of_models, chunk.group)?;
            }
            states.end_pass()?;
        }
        let compared = self.pairs.iter().zip(states.finish()?).map(|((left, right), report)| StateComparison {
            left: *left,
            right: *right,
            same_layer: report.results.iter().map(|r| same_layer(&r.matrix)).collect(),
            report,
        });
        Ok(ProbeResult {
            states: self.states.iter().map(|(name, _)| name.clone()).collect(),
            comparisons: compared.collect(),
            documents: documents.len() as u64,
            tokens: documents.iter().map(|d| d.len() as u64).sum(),
        })
    }
}

/// Of each row, the column of the same name.
fn same_layer(matrix: &Matrix) -> Vec<Option<Jackknifed>> {
    let of = |(row, name): (usize, &String)| {
        let column = matrix.columns.iter().position(|column| column == name)?;
        matrix.jackknifed(row, column).cloned()
    };
    matrix.rows.iter().enumerate().map(of).collect()
}

fn layout<B: FusedOps>(model: &GptNeoX<B>) -> Vec<Layer> {
    let config = model.config();
    let blocks = (0..config.num_layers).map(Site::Block);
    let sites = std::iter::once(Site::Embed).chain(blocks).chain([Site::FinalNorm]);
    sites.map(|site| Layer::new(site.to_string(), config.hidden_size)).collect()
}

/// Hidden states of all tokens; padding behind them changes none and is left out.
fn states_of<B: FusedOps>(model: &GptNeoX<B>, documents: &[Vec<i32>], device: &B::Device) -> Activations<f32> {
    let time = documents.iter().map(Vec::len).max().unwrap_or(0);
    let padded = |d: &Vec<i32>| d.iter().copied().chain(std::iter::repeat_n(0, time - d.len())).collect::<Vec<_>>();
    let ids: Vec<i32> = documents.iter().flat_map(padded).collect();
    let keep: Vec<bool> = documents.iter().flat_map(|d| (0..time).map(|i| i < d.len())).collect();
    let mut recorder = Recorder::new(&ids).keep(&keep);
    let ids = Tensor::<B, 2, Int>::from_data(TensorData::new(ids, [documents.len(), time]), device);
    model.hidden(ids, &mut |site: Site, hidden: &Tensor<B, 2>| recorder.record(site, hidden));
    recorder.finish()
}
