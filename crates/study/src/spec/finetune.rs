//! Fine-tuning: its sets, its recipe, and how learning rates are chosen.

use std::collections::BTreeMap;

use schedule::{Convention, LrSpec, Span, Weight};
use serde::{Deserialize, Serialize};
use trainer::AdamWSpec;

use super::is_false;

/// How fine-tuning learning rates are chosen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum LrChoice {
    /// Given.
    Fixed {
        /// One for all, or one a set.
        lr: FixedRate,
    },
    /// The best of a grid on the control's checkpoint, per set (Appendix C), by the loss on the set's validation split.
    SweepBase {
        /// The grid.
        grid: Vec<f64>,
        /// How often the grid may grow where its best rate lies at its edge, each time by the ratio of the two
        /// outermost rates.
        #[serde(default, skip_serializing_if = "is_zero")]
        extend: u32,
    },
    /// The best of a grid on each arm's own checkpoint, per set (Section 4).
    SweepEach {
        /// The grid.
        grid: Vec<f64>,
        /// As in `sweep_base`.
        #[serde(default, skip_serializing_if = "is_zero")]
        extend: u32,
    },
}

fn is_zero(value: &u32) -> bool {
    *value == 0
}

/// A rate that is given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "must be a rate, or a table of rates by set")]
pub enum FixedRate {
    /// For all sets.
    One(f64),
    /// By the set's name (Table 7).
    BySet(BTreeMap<String, f64>),
}

impl LrChoice {
    /// One rate for all.
    pub fn fixed(lr: f64) -> Self {
        Self::Fixed { lr: FixedRate::One(lr) }
    }

    /// The rates that a set is given or tried with; none where it is not named.
    pub fn grid(&self, set: &str) -> &[f64] {
        match self {
            Self::Fixed { lr: FixedRate::One(lr) } => std::slice::from_ref(lr),
            Self::Fixed { lr: FixedRate::BySet(rates) } => rates.get(set).map_or(&[], std::slice::from_ref),
            Self::SweepBase { grid, .. } | Self::SweepEach { grid, .. } => grid,
        }
    }

    /// How often the grid may grow.
    pub fn extend(&self) -> u32 {
        match self {
            Self::Fixed { .. } => 0,
            Self::SweepBase { extend, .. } | Self::SweepEach { extend, .. } => *extend,
        }
    }

    /// Whether rates are chosen, on validation splits.
    pub fn is_chosen(&self) -> bool {
        !matches!(self, Self::Fixed { .. })
    }
}

/// Fine-tuning.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FinetuneSpec {
    /// Passes over the examples.
    pub epochs: u64,
    /// Examples of a step.
    pub batch: usize,
    /// Longest row in tokens.
    pub max_time: usize,
    /// What happens to longer examples.
    #[serde(default)]
    pub truncation: data_mixer::Truncation,
    /// Whether examples of similar length share a batch, so that less of it is padding.
    #[serde(default, skip_serializing_if = "is_false")]
    pub group_by_length: bool,
    /// Peak learning rate.
    pub lr: LrChoice,
    /// How the rate changes over the steps.
    pub curve: FinetuneCurve,
    /// The optimiser.
    pub optimizer: AdamWSpec,
    /// Largest global gradient norm.
    pub clip: f64,
    /// General text that is added to each batch, against forgetting; none where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay: Option<ReplaySpec>,
    /// The sets.
    pub sets: Vec<SftSetSpec>,
}

/// General text in fine-tuning batches: rows of what the model was pretrained on are added, examples and steps stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplaySpec {
    /// Its share of all rows; 0 is no replay.
    pub share: Weight,
    /// Tokens of its rows; those of the longest row where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<usize>,
}

/// One fine-tuning set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SftSetSpec {
    /// What tables call it.
    pub name: String,
    /// Its role.
    pub role: String,
    /// Leave the prompt out of the loss.
    pub mask_prompt: bool,
    /// Training examples, at most: a sample that is the same for all seeds. All where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub examples: Option<u64>,
    /// A file of multiple-choice items (JSON lines: question, choices, gold): fine-tuned models are scored on them, and pages have their
    /// accuracy. None where absent. What stands in them is not kept out of training text: take them from held-out files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<std::path::PathBuf>,
}

/// How a fine-tune's learning rate changes over its steps, of which every set has another number.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FinetuneCurve {
    /// Its shape after the warm-up.
    #[serde(default)]
    pub shape: CurveShape,
    /// Share of the steps that warm up.
    pub warmup: Weight,
    /// The last rate, as a share of the peak.
    pub min: Weight,
    /// How the curve numbers steps.
    pub convention: Convention,
}

/// The shape of a curve after its warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CurveShape {
    /// Half a cosine down to the last rate.
    #[default]
    Cosine,
    /// A straight line down to the last rate.
    Linear,
    /// The peak, to the end.
    Constant,
}

impl std::str::FromStr for CurveShape {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Ok(match name {
            "cosine" => Self::Cosine,
            "linear" => Self::Linear,
            "constant" => Self::Constant,
            _ => return Err("must be cosine, linear or constant".to_owned()),
        })
    }
}

impl FinetuneCurve {
    /// The rates of so many steps.
    pub fn over(&self, peak: f64, steps: u64) -> LrSpec {
        let warmup = (u128::from(steps) * u128::from(self.warmup.parts()) / u128::from(Weight::PARTS)) as u64;
        let (warmup, total): (Span, Span) = (warmup.into(), steps.into());
        let (min, convention) = (peak * self.min.as_f64(), self.convention);
        match self.shape {
            CurveShape::Cosine => LrSpec::Cosine { peak, min, warmup, total, convention },
            CurveShape::Linear => LrSpec::Linear { peak, min, warmup, total, convention },
            CurveShape::Constant => LrSpec::Constant { rate: peak, warmup, convention },
        }
    }
}
