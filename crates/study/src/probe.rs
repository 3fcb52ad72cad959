//! Comparing the representations of model states on a probe's documents.

use std::path::PathBuf;

use burn::tensor::{Int, Tensor, TensorData};
use fused_ops::{FusedOps, Precision};
use gptneox_model::{Compute, GptNeoX, Site, load_pretrained};
use metrics_cka::{Activations, Comparison, Layer, Options, Products, Recorder, Report, Treatment};
use serde::{Deserialize, Serialize};
use trainer::load_weights;

use crate::{Error, Progress};

/// Where a model state's weights lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Weights {
    /// A training checkpoint.
    Checkpoint(PathBuf),
    /// A Hugging Face directory.
    Pretrained(PathBuf),
}

/// Model states to compare, each with each.
#[derive(Debug, Clone)]
pub struct ProbeJob {
    /// What progress calls it.
    pub label: String,
    /// The states: name, weights.
    pub states: Vec<(String, Weights)>,
    /// Token ids of the probe's documents, each no longer than the models take.
    pub documents: Vec<Vec<i32>>,
    /// Groups of documents for intervals.
    pub groups: usize,
    /// What is done to features.
    pub treatments: Vec<Treatment>,
    /// Most bytes that the sums of all comparisons may take together; more passes make up for less.
    pub memory: u64,
    /// Most tokens of a forward pass.
    pub micro_tokens: usize,
    /// What matrix products are computed in.
    pub precision: Precision,
}

/// What came out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProbeResult {
    /// The states' names.
    pub states: Vec<String>,
    /// Each pair of them.
    pub comparisons: Vec<StateComparison>,
    /// Documents read.
    pub documents: u64,
    /// Tokens compared.
    pub tokens: u64,
}

/// CKA between the layers of two states.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StateComparison {
    /// One state, an index: rows.
    pub left: usize,
    /// The other: columns.
    pub right: usize,
    /// The result.
    pub report: Report,
}

/// Neighbouring documents of one group that pass through the models together.
struct Chunk<'a> {
    documents: &'a [Vec<i32>],
    group: usize,
}

impl ProbeJob {
    fn chunks(&self) -> Vec<Chunk<'_>> {
        let group = |d: usize| d * self.groups / self.documents.len();
        let mut out = Vec::new();
        let mut from = 0;
        while from < self.documents.len() {
            let mut to = from;
            let mut longest = 0;
            while to < self.documents.len() && group(to) == group(from) {
                longest = longest.max(self.documents[to].len());
                if to > from && longest * (to + 1 - from) > self.micro_tokens {
                    break;
                }
                to += 1;
            }
            out.push(Chunk { documents: &self.documents[from..to], group: group(from) });
            from = to;
        }
        out
    }

    /// Runs it on a device. Every state reads every document once for each pass that a comparison's memory asks for.
    pub(crate) fn run<B: FusedOps>(
        &self,
        device: &B::Device,
        products: std::sync::Arc<dyn Products<f32>>,
        progress: &mut Progress,
    ) -> Result<ProbeResult, Error> {
        if self.documents.is_empty() {
            return Err(Error::field("documents of the probe", 0, "must be at least 1"));
        }
        let compute = Compute { precision: self.precision, ..Compute::default() };
        let load = |(_, weights): &(String, Weights)| -> Result<GptNeoX<B>, Error> {
            let model = match weights {
                Weights::Checkpoint(path) => load_weights(path, device)?,
                Weights::Pretrained(dir) => load_pretrained(dir, device)?,
            };
            Ok(model.with_compute(compute))
        };
        let models = self.states.iter().map(load).collect::<Result<Vec<_>, _>>()?;
        let layouts: Vec<Vec<Layer>> = models.iter().map(layout).collect();
        let pairs: Vec<(usize, usize)> =
            (0..models.len()).flat_map(|i| (i + 1..models.len()).map(move |j| (i, j))).collect();
        let options = Options {
            treatments: self.treatments.clone(),
            groups: self.groups,
            memory: self.memory / pairs.len().max(1) as u64,
            products,
            ..Options::default()
        };
        let mut comparisons = pairs
            .iter()
            .map(|(i, j)| Ok(Comparison::new(&layouts[*i], &layouts[*j], options.clone())?))
            .collect::<Result<Vec<_>, Error>>()?;
        let mut pass = 0;
        // All comparisons have the same layers, hence the same passes.
        while comparisons.iter_mut().map(Comparison::begin_pass).fold(false, |any, begun| any | begun) {
            pass += 1;
            progress.note(&format!("{}: pass {pass}", self.label));
            for chunk in self.chunks() {
                progress.signal.check()?;
                let states: Vec<Activations<f32>> =
                    models.iter().map(|m| states_of(m, chunk.documents, device)).collect();
                for ((i, j), comparison) in pairs.iter().zip(&mut comparisons) {
                    comparison.push(&states[*i], &states[*j], chunk.group)?;
                }
            }
            comparisons.iter_mut().try_for_each(Comparison::end_pass)?;
        }
        let reports =
            comparisons.into_iter().map(Comparison::finish).collect::<Result<Vec<_>, metrics_cka::Error>>()?;
        Ok(ProbeResult {
            states: self.states.iter().map(|(name, _)| name.clone()).collect(),
            comparisons: pairs
                .iter()
                .zip(reports)
                .map(|((left, right), report)| StateComparison { left: *left, right: *right, report })
                .collect(),
            documents: self.documents.len() as u64,
            tokens: self.documents.iter().map(|d| d.len() as u64).sum(),
        })
    }
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
