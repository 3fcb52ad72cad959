//! The loss of a model on held-out text.

use std::cell::Cell;
use std::ops::Range;

use burn::module::AutodiffModule as _;
use corpus::TokenStore;
use data_mixer::{Batch, IGNORE, Sequences, SftBatches, SftSpec};
use forgetting_eval::{DocumentLosses, HeldOut};
use fused_ops::{FusedOps, Precision, TrainingBackend};
use gptneox_model::{GptNeoX, load_pretrained};
use schedule::LrSpec;
use serde::{Deserialize, Serialize};
use serde_json::json;
use trainer::{TrainSpec, evaluate_tokens, load_weights};

use metrics_proximity::sample_documents as sample;

use super::rows::unordered;
use super::tokens::Content;
use super::{BaseState, Context, Cost, Input, Kind, MODEL, pretrain};
use crate::Error;
use crate::address::Address;
use crate::store::Store;

/// Sequences of a batch.
const BATCH: usize = 16;

/// A model in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Model {
    /// The checkpoint that a study begins at.
    Base(BaseState),
    /// A pretrained state's weights.
    Pretrained(Address),
    /// A fine-tuned model.
    Finetuned(Address),
}

impl Model {
    /// The job that makes it.
    pub(crate) fn address(&self) -> &Address {
        match self {
            Self::Base(base) => &base.made_by,
            Self::Pretrained(address) | Self::Finetuned(address) => address,
        }
    }

    /// What tells it apart: a checkpoint's content, whatever files it was read from.
    pub(super) fn identity(&self) -> String {
        match self {
            Self::Base(base) => format!("base {}", base.digest),
            Self::Pretrained(address) | Self::Finetuned(address) => address.to_string(),
        }
    }

    pub(super) fn input(&self) -> Input {
        match self {
            Self::Pretrained(state) => Input::weights(state),
            Self::Base(base) => Input::files(&base.made_by),
            Self::Finetuned(tuned) => Input::files(tuned),
        }
    }

    pub(crate) fn load<B: FusedOps>(&self, store: &Store, device: &B::Device) -> Result<GptNeoX<B>, Error> {
        Ok(match self {
            Self::Pretrained(state) => load_weights(&pretrain::weights(store, state), device)?,
            Self::Base(BaseState { made_by: job, .. }) | Self::Finetuned(job) => {
                store.verify(job, MODEL)?;
                load_pretrained(&store.folder(job).join(MODEL), device)?
            }
        })
    }
}

/// What a model is evaluated on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum EvaluateOn {
    /// Sequences of general text.
    General {
        /// Held-out text.
        tokens: Content,
        /// Tokens of a sequence.
        time: usize,
        /// Sequences.
        count: u64,
        /// Seed of those drawn, where there are more.
        draw: u64,
        /// Whether attention stops at the beginning of a document.
        document_mask: bool,
    },
    /// A fine-tuning set's examples, with the training mask.
    Examples {
        /// Held-out examples.
        tokens: Content,
        /// Examples, at most.
        count: u64,
        /// How they become rows.
        rows: SftSpec,
    },
}

impl EvaluateOn {
    /// The text that it reads.
    pub(super) fn inputs(&self) -> impl Iterator<Item = Input> + '_ {
        let (Self::General { tokens, .. } | Self::Examples { tokens, .. }) = self;
        tokens.inputs().into_iter()
    }

    /// All of it in batches, and the bytes of its text where they are known.
    pub(super) fn batches(&self, store: &Store) -> Result<(Vec<Batch>, Option<u64>), Error> {
        match self {
            Self::General { tokens, time, count, draw, document_mask } => {
                let text = tokens.open(store)?;
                let sequences = Sequences::new(text.clone(), *time)?.with_document_mask(*document_mask);
                let drawn = sample(sequences.len(), *count, *draw);
                let batches = drawn.chunks(BATCH).map(|places| sequences.batch_of(places));
                let bytes = documents(&text, *time as u64, &drawn).map(|document| document.held_out(&text).bytes);
                Ok((batches.collect::<Result<_, _>>()?, bytes.sum()))
            }
            Self::Examples { tokens, count, rows } => {
                let examples = SftBatches::new(tokens.open(store)?, *count, unordered(rows))?;
                Ok((examples.in_order().collect::<Result<_, _>>()?, None))
            }
        }
    }
}

/// The documents that tokens of some sequences belong to, and how many; their losses are to be added.
fn documents<'a>(store: &'a TokenStore, time: u64, drawn: &'a [u64]) -> impl Iterator<Item = Document> + 'a {
    let mut found: Vec<Document> = Vec::new();
    // Position j of sequence i predicts token i·T + j + 1.
    for at in drawn.iter().flat_map(|i| (1..=time).map(move |j| i * time + j)) {
        if found.last().is_none_or(|d| !d.range.contains(&at)) {
            let range = store.documents_in(at..at + 1).next().unwrap_or(at..at + 1);
            found.push(Document { range, nats: 0.0, tokens: 0 });
        }
        found.last_mut().expect("one was pushed if there was none").tokens += 1;
    }
    found.into_iter()
}

/// Evaluates a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluate {
    /// What messages call the model.
    pub label: String,
    /// What they call what it is evaluated on.
    pub(crate) what: String,
    /// The model.
    pub(crate) model: Model,
    /// On what.
    pub(crate) on: EvaluateOn,
    /// Most tokens of a micro-batch.
    pub(crate) micro_tokens: usize,
    /// What matrix products are computed in.
    pub(crate) precision: Precision,
    /// The class of matrix kernels; `None` where the study takes any.
    pub(crate) kernels: Option<String>,
    /// What it is expected to take.
    #[serde(default)]
    pub(crate) cost: Cost,
}

/// A loss that is not finite is no result: the model diverged.
fn finite(label: &str, losses: DocumentLosses) -> Result<DocumentLosses, Error> {
    let total = losses.total();
    if total.nats_per_token().is_finite() {
        return Ok(losses);
    }
    let reason = if total.tokens == 0 { "no token is predicted" } else { "the loss is not finite" };
    Err(Error::NotFinite { what: label.to_owned(), reason: reason.to_owned() })
}

impl Kind for Evaluate {
    const NAME: &'static str = "evaluate";
    const VERSION: u32 = 3;
    type Output = DocumentLosses;

    fn address(&self) -> Address {
        let on = match &self.on {
            EvaluateOn::General { tokens, time, count, draw, document_mask } => {
                json!({ "general": tokens.digest, "time": time, "count": count, "draw": draw, "document_mask": document_mask })
            }
            EvaluateOn::Examples { tokens, count, rows } => {
                json!({ "examples": tokens.digest, "count": count, "rows": unordered(rows) })
            }
        };
        let identity = json!({
            "model": self.model.identity(),
            "on": on,
            "micro_tokens": self.micro_tokens,
            "precision": self.precision,
            "kernels": self.kernels,
        });
        Self::identified_by(&identity)
    }

    fn label(&self) -> String {
        format!("{}, evaluated on {}", self.label, self.what)
    }

    fn inputs(&self) -> Vec<Input> {
        let (EvaluateOn::General { tokens, .. } | EvaluateOn::Examples { tokens, .. }) = &self.on;
        [self.model.input()].into_iter().chain(tokens.inputs()).collect()
    }

    fn cost(&self) -> Cost {
        self.cost.clone()
    }

    fn kernels(&self) -> Option<&str> {
        self.kernels.as_deref()
    }

    fn run<AB: TrainingBackend>(&self, cx: &mut Context<'_, AB>) -> Result<Self::Output, Error> {
        let recipe = TrainSpec {
            micro_tokens: self.micro_tokens,
            precision: self.precision,
            ..TrainSpec::new(LrSpec::constant(0.0))
        };
        let model = self.model.load::<AB>(cx.store, cx.device)?.valid().with_compute(recipe.compute());
        // Asked before each batch.
        let stopped = Cell::new(false);
        let go_on = || {
            stopped.set(cx.report.signal().received().is_some());
            !stopped.get()
        };
        let losses = match &self.on {
            EvaluateOn::General { tokens, time, count, draw, document_mask } => {
                let store = tokens.open(cx.store)?;
                let sequences = Sequences::new(store.clone(), *time)?.with_document_mask(*document_mask);
                let drawn = sample(sequences.len(), *count, *draw);
                general(&model, &store, &sequences, &drawn, &recipe, cx.device, &go_on)?
            }
            EvaluateOn::Examples { tokens, count, rows } => {
                let examples = SftBatches::new(tokens.open(cx.store)?, *count, unordered(rows))?;
                by_row(&model, &examples, &recipe, cx.device, &go_on)?
            }
        };
        if stopped.get() {
            cx.report.check()?;
        }
        finite(&self.label(), losses)
    }
}

/// The loss on a document's tokens in the evaluated sequences.
struct Document {
    range: Range<u64>,
    nats: f64,
    tokens: u64,
}

impl Document {
    /// With the bytes of its text; of a document that is cut, in proportion to its tokens.
    fn held_out(&self, store: &TokenStore) -> HeldOut {
        let length = self.range.end - self.range.start;
        let bytes = store.document_of(self.range.start).map(|d| u64::from(store.text_bytes(d)));
        let bytes = bytes.map(|bytes| (bytes * self.tokens).div_ceil(length.max(1)));
        HeldOut { nats: self.nats, tokens: self.tokens, bytes }
    }
}

/// Losses by document of sequences in ascending order.
fn general<B: FusedOps>(
    model: &GptNeoX<B>,
    store: &TokenStore,
    sequences: &Sequences,
    drawn: &[u64],
    recipe: &TrainSpec,
    device: &B::Device,
    go_on: &dyn Fn() -> bool,
) -> Result<DocumentLosses, Error> {
    let batches = drawn.chunks(BATCH).take_while(|_| go_on()).map(|places| sequences.batch_of(places));
    // Position j of sequence i predicts token i·T + j + 1.
    let time = sequences.time() as u64;
    let mut predicted = drawn.iter().flat_map(|i| (1..=time).map(move |j| i * time + j));
    let mut documents: Vec<Document> = Vec::new();
    evaluate_tokens(model, batches, recipe, device, &mut |_, losses| {
        for (loss, at) in losses.iter().zip(&mut predicted) {
            if documents.last().is_none_or(|d| !d.range.contains(&at)) {
                let range = store.documents_in(at..at + 1).next().unwrap_or(at..at + 1);
                documents.push(Document { range, nats: 0.0, tokens: 0 });
            }
            let current = documents.last_mut().expect("one was pushed if there was none");
            current.nats += f64::from(*loss);
            current.tokens += 1;
        }
    })?;
    Ok(DocumentLosses::new(documents.iter().map(|d| d.held_out(store))))
}

/// Losses on examples: each row is one.
fn by_row<B: FusedOps>(
    model: &GptNeoX<B>,
    examples: &SftBatches,
    recipe: &TrainSpec,
    device: &B::Device,
    go_on: &dyn Fn() -> bool,
) -> Result<DocumentLosses, Error> {
    let mut rows = Vec::new();
    evaluate_tokens(model, examples.in_order().take_while(|_| go_on()), recipe, device, &mut |batch, losses| {
        let row = |(losses, targets): (&[f32], &[i32])| HeldOut {
            nats: losses.iter().map(|l| f64::from(*l)).sum(),
            tokens: targets.iter().filter(|t| **t != IGNORE).count() as u64,
            // With prompts left out it is unknown which bytes the rest stands for.
            bytes: None,
        };
        rows.extend(losses.chunks_exact(batch.time()).zip(batch.targets().chunks_exact(batch.time())).map(row));
    })?;
    Ok(DocumentLosses::new(rows))
}
