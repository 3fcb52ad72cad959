//! What runs jobs: training on this process's backend.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use burn::module::AutodiffModule;
use burn::tensor::backend::AutodiffBackend;
use corpus::TokenStore;
use data_mixer::{Batch, BatchSource, IGNORE, LedgerHead, Sequences, SftBatches};
use forgetting_eval::{DocumentLosses, HeldOut};
use fused_ops::FusedOps;
use gptneox_model::{GptNeoX, GptNeoXConfig, SaveOptions, save_pretrained};
use metrics_cka::{Device, Host, Products};
use schedule::LrSpec;
use serde::{Deserialize, Serialize};
use trainer::{Control, Outcome, RunOptions, TrainSpec, Trainer, evaluate_tokens, load_weights, run};

use crate::{Error, PathJob, PathResult, ProbeJob, ProbeResult, Progress, StudySpec};

/// Most steps between checkpoints.
const CHECKPOINT_STEPS: u64 = 500;
/// Checkpoints kept while a job runs.
const KEEP: usize = 2;

/// The loss on a document's tokens in the evaluated sequences.
struct DocumentLoss {
    range: Range<u64>,
    nats: f64,
    tokens: u64,
}

impl DocumentLoss {
    /// With the bytes of its text; of a document that is cut, in proportion to its tokens.
    fn held_out(&self, store: &TokenStore) -> HeldOut {
        let length = self.range.end - self.range.start;
        let bytes = store.document_of(self.range.start).map(|d| u64::from(store.text_bytes(d)));
        let bytes = bytes.map(|bytes| (bytes * self.tokens).div_ceil(length.max(1)));
        HeldOut { nats: self.nats, tokens: self.tokens, bytes }
    }
}

/// Held-out general sequences.
#[derive(Clone)]
pub struct GeneralEval {
    /// The store they lie in.
    pub store: Arc<TokenStore>,
    /// The sequences.
    pub sequences: Sequences,
    /// How many.
    pub count: u64,
}

/// A stretch of pretraining.
pub struct PretrainJob {
    /// What progress calls it.
    pub label: String,
    /// Its folder in the store.
    pub dir: PathBuf,
    /// The folder of the stretch it continues.
    pub parent: Option<PathBuf>,
    /// The model.
    pub model: GptNeoXConfig,
    /// Seed of its first weights.
    pub init_seed: u64,
    /// The recipe.
    pub recipe: TrainSpec,
    /// The batches.
    pub batches: Box<dyn BatchSource>,
    /// One past the last step.
    pub until: u64,
    /// What is evaluated at its end.
    pub general: GeneralEval,
    /// What progress counts for it.
    pub tokens: u64,
}

/// A loss on held-out text.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct HeldOutLoss {
    /// Nats per predicted token.
    pub loss: f64,
    /// Predicted tokens.
    pub tokens: u64,
    /// Documents they are of.
    pub documents: u64,
    /// Standard error of the loss over documents; `None` with one document.
    pub standard_error: Option<f64>,
    /// Bits per byte of text, where its bytes are known.
    pub bits_per_byte: Option<f64>,
}

impl HeldOutLoss {
    fn of(losses: &DocumentLosses) -> Self {
        let total = losses.total();
        Self {
            loss: total.nats_per_token(),
            tokens: total.tokens,
            documents: losses.documents().len() as u64,
            standard_error: losses.standard_error(),
            bits_per_byte: total.bits_per_byte(),
        }
    }
}

/// What came out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PretrainResult {
    /// Held-out general loss at the end.
    pub c4: HeldOutLoss,
    /// What was seen since step 0.
    pub ledger: LedgerHead,
    /// Steps left out because their loss or gradient was not finite.
    pub skipped: u64,
}

/// A fine-tune.
pub struct FinetuneJob {
    /// What progress calls it.
    pub label: String,
    /// Its folder in the store.
    pub dir: PathBuf,
    /// The folder of the pretraining it starts from.
    pub base: PathBuf,
    /// The recipe.
    pub recipe: TrainSpec,
    /// Its peak learning rate.
    pub lr: f64,
    /// The training batches.
    pub batches: SftBatches,
    /// The held-out examples.
    pub held_out: SftBatches,
    /// Held-out general text.
    pub general: GeneralEval,
    /// The tokenizer's file: a copy lies beside the model.
    pub tokenizer: PathBuf,
    /// What progress counts for its training.
    pub tokens: u64,
}

/// What came out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FinetuneResult {
    /// Held-out loss on the set after fine-tuning.
    pub sft: HeldOutLoss,
    /// Held-out general loss after fine-tuning.
    pub c4: HeldOutLoss,
    /// Peak learning rate.
    pub lr: f64,
    /// Training examples.
    pub examples: u64,
    /// Of these, cut at the longest row.
    pub truncated: u64,
    /// Examples passed over, because no predicted token was left of them.
    pub dropped: u64,
    /// What was seen.
    pub ledger: LedgerHead,
}

/// Runs jobs. Each can be stopped and started again.
pub trait Engine {
    /// The backend's name: part of every result's address, because backends differ in the last bits.
    fn name(&self) -> &str;

    /// Runs a stretch of pretraining.
    ///
    /// # Errors
    /// Training that failed, or a signal.
    fn pretrain(&self, job: &PretrainJob, progress: &mut Progress) -> Result<PretrainResult, Error>;

    /// Runs a fine-tune.
    ///
    /// # Errors
    /// Training that failed, or a signal.
    fn finetune(&self, job: &FinetuneJob, progress: &mut Progress) -> Result<FinetuneResult, Error>;

    /// Compares the representations of model states.
    ///
    /// # Errors
    /// Models that cannot be read, a memory that is too small, or a signal.
    fn probe(&self, job: &ProbeJob, progress: &mut Progress) -> Result<ProbeResult, Error>;

    /// Walks a fine-tuning path again and measures the theory's terms along it.
    ///
    /// # Errors
    /// Models or logs that cannot be read, values that are not finite, or a signal.
    fn walk(&self, job: &PathJob, progress: &mut Progress) -> Result<PathResult, Error>;

    /// Measures the operations a second that pretraining this study's model sustains: two short steps on made-up
    /// tokens.
    ///
    /// # Errors
    /// A model outside its limits, a precision that the backend does not have.
    fn speed(&self, spec: &StudySpec) -> Result<f64, Error>;
}

/// Trains in this process.
#[derive(Debug)]
pub struct LocalEngine<AB: AutodiffBackend> {
    name: &'static str,
    device: AB::Device,
    checkpoint_seconds: f64,
}

impl<AB> LocalEngine<AB>
where
    AB: AutodiffBackend + FusedOps,
    AB::InnerBackend: FusedOps,
{
    /// On a device of a backend, with at most so many seconds between checkpoints.
    pub fn new(name: &'static str, device: AB::Device, checkpoint_seconds: f64) -> Self {
        Self { name, device, checkpoint_seconds }
    }

    fn general_loss(
        &self,
        model: &GptNeoX<AB::InnerBackend>,
        eval: &GeneralEval,
        recipe: &TrainSpec,
    ) -> Result<HeldOutLoss, Error> {
        let batches = (0..eval.count).step_by(16).map(|from| {
            let mut batch = Batch::with_capacity(16, eval.sequences.time());
            for i in from..(from + 16).min(eval.count) {
                eval.sequences.push(i, 0, &mut batch)?;
            }
            Ok(batch)
        });
        // Position j of sequence i predicts token i·T + j + 1.
        let mut documents: Vec<DocumentLoss> = Vec::new();
        let mut at = 0;
        evaluate_tokens(model, batches, recipe, &self.device, &mut |_, losses| {
            for loss in losses {
                at += 1;
                if documents.last().is_none_or(|d| !d.range.contains(&at)) {
                    let range = eval.store.documents_in(at..at + 1).next().unwrap_or(at..at + 1);
                    documents.push(DocumentLoss { range, nats: 0.0, tokens: 0 });
                }
                let current = documents.last_mut().expect("one was pushed if there was none");
                current.nats += f64::from(*loss);
                current.tokens += 1;
            }
        })?;
        Ok(HeldOutLoss::of(&DocumentLosses::new(documents.iter().map(|d| d.held_out(&eval.store)))))
    }

    /// Losses on held-out examples: each row is one.
    fn sft_loss(
        &self,
        model: &GptNeoX<AB::InnerBackend>,
        examples: &SftBatches,
        recipe: &TrainSpec,
    ) -> Result<HeldOutLoss, Error> {
        let mut rows = Vec::new();
        evaluate_tokens(model, examples.in_order(), recipe, &self.device, &mut |batch, losses| {
            let row = |(losses, targets): (&[f32], &[i32])| HeldOut {
                nats: losses.iter().map(|l| f64::from(*l)).sum(),
                tokens: targets.iter().filter(|t| **t != IGNORE).count() as u64,
                // With prompts left out it is unknown which bytes the rest stands for.
                bytes: None,
            };
            rows.extend(losses.chunks_exact(batch.time).zip(batch.targets.chunks_exact(batch.time)).map(row));
        })?;
        Ok(HeldOutLoss::of(&DocumentLosses::new(rows)))
    }

    /// Trains up to `until`; the trainer comes back unless a signal came. Progress counts `tokens` under `label`.
    fn train(
        &self,
        trainer: Trainer<AB>,
        batches: &dyn BatchSource,
        dir: &std::path::Path,
        until: u64,
        (label, tokens): (&str, u64),
        progress: &mut Progress,
    ) -> Result<Trainer<AB>, Error> {
        let options = RunOptions {
            dir,
            checkpoint_steps: CHECKPOINT_STEPS,
            checkpoint_seconds: self.checkpoint_seconds,
            keep: KEEP,
            until,
        };
        let begin = trainer.steps_done();
        let steps = (until - begin).max(1);
        let share = |done: u64| (u128::from(tokens) * u128::from(done - begin) / u128::from(steps)) as u64;
        let signal = progress.signal.clone();
        let (trainer, outcome) = run(trainer, batches, &options, &mut |step, record| {
            match record {
                None if step > begin => {
                    progress.note(&format!("{label}: restored the checkpoint of step {step}"));
                    progress.skip(share(step));
                }
                None => {}
                Some(r) => {
                    let message = format!("{label}: step {}/{until}, loss {:.3}", step, r.loss);
                    progress.advance(share(step) - share(step - 1), &message);
                }
            }
            if signal.received().is_some() { Control::Stop } else { Control::Continue }
        })?;
        match outcome {
            Outcome::Finished => Ok(trainer),
            Outcome::Stopped => Err(Error::Stopped { signal: progress.signal.received().unwrap_or(0) }),
        }
    }
}

impl<AB> Engine for LocalEngine<AB>
where
    AB: AutodiffBackend + FusedOps,
    AB::InnerBackend: FusedOps,
{
    fn name(&self) -> &str {
        self.name
    }

    fn pretrain(&self, job: &PretrainJob, progress: &mut Progress) -> Result<PretrainResult, Error> {
        let model = GptNeoX::<AB>::init(&job.model, job.init_seed, &self.device)?;
        let mut trainer = Trainer::new(model, job.recipe.clone(), &self.device)?;
        if let Some(parent) = &job.parent {
            trainer = trainer.load(&parent.join(FINAL))?;
        }
        let trainer =
            self.train(trainer, job.batches.as_ref(), &job.dir, job.until, (&job.label, job.tokens), progress)?;
        trainer.save(&job.dir.join(FINAL))?;
        Ok(PretrainResult {
            c4: self.general_loss(&trainer.model().valid(), &job.general, &job.recipe)?,
            ledger: trainer.ledger(),
            skipped: trainer.steps_skipped(),
        })
    }

    fn finetune(&self, job: &FinetuneJob, progress: &mut Progress) -> Result<FinetuneResult, Error> {
        let model = load_weights(&job.base.join(FINAL), &self.device)?;
        let trainer = Trainer::new(model, job.recipe.clone(), &self.device)?;
        let trainer =
            self.train(trainer, &job.batches, &job.dir, job.batches.steps(), (&job.label, job.tokens), progress)?;
        let ledger = trainer.ledger();
        let model = trainer.into_model().valid();
        let to = job.dir.join("model");
        save_pretrained(&model, &to, &SaveOptions::default())?;
        let copy = to.join("tokenizer.json");
        std::fs::copy(&job.tokenizer, &copy).map_err(|source| Error::Io { path: job.tokenizer.clone(), source })?;
        let report = job.batches.report();
        Ok(FinetuneResult {
            sft: self.sft_loss(&model, &job.held_out, &job.recipe)?,
            c4: self.general_loss(&model, &job.general, &job.recipe)?,
            lr: job.lr,
            examples: report.examples,
            truncated: report.truncated,
            dropped: report.dropped,
            ledger,
        })
    }

    fn probe(&self, job: &ProbeJob, progress: &mut Progress) -> Result<ProbeResult, Error> {
        // GPUs multiply faster than states travel.
        let products: Arc<dyn Products<f32>> = match self.name {
            "cuda" | "vulkan" => Arc::new(Device::<AB::InnerBackend>::new(self.device.clone())),
            _ => Arc::new(Host),
        };
        job.run::<AB::InnerBackend>(&self.device, products, progress)
    }

    fn walk(&self, job: &PathJob, progress: &mut Progress) -> Result<PathResult, Error> {
        job.run::<AB>(&self.device, progress)
    }

    fn speed(&self, spec: &StudySpec) -> Result<f64, Error> {
        let (model, time) = (&spec.model, spec.pretrain.time);
        let recipe = TrainSpec {
            precision: spec.pretrain.precision,
            recompute: spec.pretrain.recompute,
            ..TrainSpec::new(LrSpec::constant(1e-4))
        };
        let mut trainer = Trainer::new(GptNeoX::<AB>::init(model, 0, &self.device)?, recipe, &self.device)?;
        let rows = (2048 / time).max(1);
        let vocabulary = model.vocab_size as u64;
        let ids: Vec<i32> =
            (0..(rows * time) as u64).map(|i| (data_mixer::stream_key(0, "speed", i) % vocabulary) as i32).collect();
        let batch = Batch { time, targets: ids.clone(), inputs: ids, sources: vec![0; rows], ..Batch::default() };
        trainer.step(&batch)?;
        let seconds = trainer.step(&batch)?.seconds.min(trainer.step(&batch)?.seconds);
        Ok(model.training_flops(time).total() * (rows * time) as f64 / seconds)
    }
}

/// A finished stretch's checkpoint.
pub(crate) const FINAL: &str = "final.safetensors";
