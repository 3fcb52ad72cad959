//! What a study measured, and where each number lies.

use forgetting_eval::Summary;
use serde::Serialize;

/// One fine-tuned model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measurement {
    /// Its arm, an index into the spec's.
    pub arm: usize,
    /// Its set, an index into the spec's.
    pub set: usize,
    /// The pretraining seed.
    pub pretrain_seed: u64,
    /// The fine-tuning seed.
    pub sft_seed: u64,
    /// Peak learning rate of fine-tuning.
    pub lr: f64,
    /// Held-out loss on the set.
    pub sft_loss: f64,
    /// Standard error of it over the set's held-out examples.
    pub sft_document_se: Option<f64>,
    /// Held-out general loss before fine-tuning.
    pub c4_before: f64,
    /// Held-out general loss after it.
    pub c4_loss: f64,
    /// Standard error of it over documents.
    pub c4_document_se: Option<f64>,
    /// The same loss in bits per byte.
    pub c4_bits_per_byte: Option<f64>,
    /// Training examples.
    pub examples: u64,
    /// Of these, cut at the longest row.
    pub truncated: u64,
    /// Examples passed over, because no predicted token was left of them.
    pub dropped: u64,
    /// The pretrained model's address in the store.
    pub pretrain_key: String,
    /// The fine-tune's address in the store.
    pub finetune_key: String,
}

/// One point of the learning-rate sweep.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SweepPoint {
    /// The arm it was tried on.
    pub arm: usize,
    /// The set.
    pub set: usize,
    /// The rate.
    pub lr: f64,
    /// Held-out loss on the set.
    pub sft_loss: f64,
    /// The fine-tune's address in the store.
    pub finetune_key: String,
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StudyResults {
    /// Every fine-tuned model of the tables.
    pub measurements: Vec<Measurement>,
    /// The sweep, where there was one.
    pub sweep: Vec<SweepPoint>,
    /// Each arm's held-out general loss before fine-tuning, by pretraining seed.
    pub c4_before: Vec<Vec<f64>>,
    /// Each arm's address before midtraining began, by pretraining seed; none for an arm without midtraining, or with it
    /// from step 0 on.
    pub forks: Vec<Vec<Option<String>>>,
    /// Entropy of the held-out general text's token distribution: the loss without any context.
    pub unigram_entropy: f64,
    /// The backend.
    pub engine: String,
}

impl StudyResults {
    /// A loss of an arm on a set, one value a seed: with several pretraining seeds, each is the mean over its fine-tunes.
    pub fn values(&self, arm: usize, set: usize, value: impl Fn(&Measurement) -> f64) -> Vec<f64> {
        match self.nested(arm, set, value).as_slice() {
            [only] => only.clone(),
            seeds => seeds.iter().map(|fine_tunes| Summary::of(fine_tunes).mean).collect(),
        }
    }

    /// A value of an arm on a set: by pretraining seed, those of its fine-tunes.
    pub fn nested(&self, arm: usize, set: usize, value: impl Fn(&Measurement) -> f64) -> Vec<Vec<f64>> {
        let of = |m: &&Measurement| m.arm == arm && m.set == set;
        let mut seeds = std::collections::BTreeMap::<u64, Vec<f64>>::new();
        for m in self.measurements.iter().filter(of) {
            seeds.entry(m.pretrain_seed).or_default().push(value(m));
        }
        seeds.into_values().collect()
    }
}
