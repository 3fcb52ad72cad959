//! The claims, each with its contrast and its margin, as they were written down before any study's result was seen (the paper's
//! tables were known).
//!
//! Gains are shares of the control's mean loss; a contrast is above 0 where the claim is true.

use forgetting_eval::{Crossed, Summary};

use super::evidence::{AtSize, Evidence, Lacks, Which, mean_of};
use super::verdict::{Scale, Sense, Tested};
use crate::protocol::{FLAN, GSM8K, MATH, PYCODE, STARCODER};
use crate::question::figure3::PERMUTATIONS;
use crate::question::figure4::COMPENSATION;
use crate::question::table3::Continued;

/// Correlations below this are of no account.
const MARGIN_OF_R: f64 = 0.3;
/// Differences of CKA below this are of no account.
const MARGIN_OF_CKA: f64 = 0.01;
/// The paper compares with continued pretraining at its two smallest sizes.
pub(super) const CONTINUED_SIZES: usize = 2;
/// The grid of starts and weights is that of the smallest size.
pub(super) const GRID_SIZES: usize = 1;

/// Mixes and the sets that they match.
pub(super) const MATCHED: [(&str, &str); 2] = [(STARCODER.name, PYCODE.name), (MATH.name, GSM8K.name)];

/// In what a margin is given.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Margin {
    /// A share of the control's loss: that of the question.
    Loss,
    /// A correlation.
    Correlation,
    /// A difference of CKA.
    Cka,
}

impl Margin {
    pub(super) fn value(self, of_loss: f64) -> f64 {
        match self {
            Self::Loss => of_loss,
            Self::Correlation => MARGIN_OF_R,
            Self::Cka => MARGIN_OF_CKA,
        }
    }

    pub(super) fn unit(self) -> &'static str {
        match self {
            Self::Loss => "share of the control's loss",
            Self::Correlation => "correlation",
            Self::Cka => "CKA",
        }
    }
}

/// A claim of the paper.
pub(super) struct Claim {
    /// F and the number of the finding, with a letter for a part of it.
    pub(super) id: &'static str,
    /// What is claimed, in the paper's sense: a few words, for a table and a picture.
    pub(super) claim: &'static str,
    /// What is computed.
    pub(super) contrast: &'static str,
    pub(super) margin: Margin,
    pub(super) sense: Sense,
    /// What shows it.
    pub(super) shown_by: &'static str,
    pub(super) test: fn(&Evidence, f64) -> Result<Tested, Lacks>,
}

/// The five findings, in the paper's order: p is adjusted over these.
pub(super) const FINDINGS: [Claim; 5] = [
    Claim {
        id: "F1",
        claim: "gains follow the domain",
        contrast: "mean gain of the two matched pairs (code on Pycode, mathematics on GSM8K), less the mean gain of all other pairs of a \
                   mix and a set; mean over sizes",
        margin: Margin::Loss,
        sense: Sense::Benefit,
        shown_by: "table2, table8",
        test: |evidence, _| {
            let all = evidence.sizes.len();
            evidence.over_sizes(all, |at| less(&matched(at, Which::Sft)?, &mismatched(at)?)).map(|v| Tested::mean(&v))
        },
    },
    Claim {
        id: "F2",
        claim: "proximity predicts gains",
        contrast: "r of proximity advantage and gain, both standardised within sets, over all sets and sizes; p from exchanging mixes, or \
                   over seeds where that is higher",
        margin: Margin::Correlation,
        sense: Sense::Correlation,
        shown_by: "figure3",
        test: |evidence, _| proximity_and_gains(evidence, evidence.sizes.len(), Standardise::Within),
    },
    Claim {
        id: "F3",
        claim: "mixing beats continuing",
        contrast: "loss of continued pretraining less that of the mixture, mean over both domains and both losses (set, general text) and \
                   over the two smallest sizes",
        margin: Margin::Loss,
        sense: Sense::Benefit,
        shown_by: "table3",
        test: |evidence, _| {
            let contrast = |at: &AtSize| {
                let each = Continued::PAPER.iter().flat_map(|Continued { mixed, continued, set }| {
                    [Which::Sft, Which::C4].map(|which| at.gain_over(which, mixed, continued, set))
                });
                mean_of(&each.collect::<Result<Vec<_>, _>>()?)
            };
            evidence.over_sizes(CONTINUED_SIZES, contrast).map(|v| Tested::mean(&v))
        },
    },
    Claim {
        id: "F4",
        claim: "start and weight interact",
        contrast: "what the highest weight gains over the lowest at the earliest start, less what it gains at the latest; smallest size",
        margin: Margin::Loss,
        sense: Sense::Benefit,
        shown_by: "figure4",
        test: |evidence, _| {
            let contrast = |at: &AtSize| {
                let [early_low, early_high, late_low, late_high] = corners(at)?;
                let early = at.gain_over(Which::Sft, early_high, early_low, PYCODE.name)?;
                less(&early, &at.gain_over(Which::Sft, late_high, late_low, PYCODE.name)?)
            };
            evidence.over_sizes(GRID_SIZES, contrast).map(|v| Tested::mean(&v))
        },
    },
    Claim {
        id: "F5",
        claim: "the last layer is steadier",
        contrast: "CKA of the last layer before and after fine-tuning on Pycode, midtrained on code less base, probed with APPS; mean over \
                   sizes",
        margin: Margin::Cka,
        sense: Sense::Benefit,
        shown_by: "figure6, figure9, figure10",
        test: |evidence, _| evidence.over_sizes(evidence.sizes.len(), |at| shift(at, "APPS")).map(|v| Tested::mean(&v)),
    },
];

/// What else the paper says: each stands for itself.
pub(super) const PARTS: [Claim; 13] = [
    Claim {
        id: "F1a",
        claim: "code is the best mix for Pycode",
        contrast: "gain of the code mix less that of each other mix: the lowest of them",
        margin: Margin::Loss,
        sense: Sense::Benefit,
        shown_by: "table2, table8",
        test: |evidence, _| best(evidence, STARCODER.name, PYCODE.name),
    },
    Claim {
        id: "F1b",
        claim: "mathematics is the best mix for GSM8K",
        contrast: "gain of the mathematics mix less that of each other mix: the lowest of them",
        margin: Margin::Loss,
        sense: Sense::Benefit,
        shown_by: "table2, table8",
        test: |evidence, _| best(evidence, MATH.name, GSM8K.name),
    },
    Claim {
        id: "F1c",
        claim: "mismatched mixes give little",
        contrast: "δ less the mean gain of all mismatched pairs",
        margin: Margin::Loss,
        sense: Sense::Bound,
        shown_by: "table2, table8",
        test: |evidence, margin| {
            let values = evidence.over_sizes(evidence.sizes.len(), mismatched)?;
            Ok(Tested::mean(&values.iter().map(|gain| margin - gain).collect::<Vec<_>>()))
        },
    },
    Claim {
        id: "F1d",
        claim: "FLAN has a minimal effect",
        contrast: "δ less the size of FLAN's mean gain over all sets",
        margin: Margin::Loss,
        sense: Sense::Bound,
        shown_by: "table2, table8",
        test: |evidence, margin| {
            let flan = |at: &AtSize| {
                let each = at.sets.iter().map(|set| at.gain(Which::Sft, FLAN.name, set));
                mean_of(&each.collect::<Result<Vec<_>, _>>()?)
            };
            evidence.over_sizes(evidence.sizes.len(), flan).map(|v| Tested::mean(&v).within(margin))
        },
    },
    Claim {
        id: "F1e",
        claim: "matched mixes forget less",
        contrast: "mean gain of the two matched pairs in the loss on general text",
        margin: Margin::Loss,
        sense: Sense::Benefit,
        shown_by: "table2, table8",
        test: |evidence, _| {
            evidence.over_sizes(evidence.sizes.len(), |at| matched(at, Which::C4)).map(|v| Tested::mean(&v))
        },
    },
    Claim {
        id: "F1f",
        claim: "improvement and retention go together (r = 0.64)",
        contrast: "r of the gains on the set and on general text, both standardised within sets, over all sets and sizes; p from exchanging \
                   mixes, or over seeds where that is higher",
        margin: Margin::Correlation,
        sense: Sense::Correlation,
        shown_by: "table2, table8",
        test: |evidence, _| improvement_and_retention(evidence),
    },
    Claim {
        id: "F2a",
        claim: "at the smallest size r = 0.869",
        contrast: "r of proximity advantage and gain over all pairs at the smallest size, without standardising; p from exchanging mixes, or \
                   over seeds where that is higher",
        margin: Margin::Correlation,
        sense: Sense::Correlation,
        shown_by: "figure3",
        test: |evidence, _| proximity_and_gains(evidence, 1, Standardise::No),
    },
    Claim {
        id: "F2b",
        claim: "proximity predicts better at smaller sizes",
        contrast: "r (standardised within sets) at the smallest size less that at the largest",
        margin: Margin::Correlation,
        sense: Sense::Correlation,
        shown_by: "figure3",
        test: |evidence, _| {
            let ([first, .., last], true) = (evidence.sizes.as_slice(), evidence.sizes.len() > 1) else {
                return Err("there is one size".to_owned());
            };
            let r = |at: &AtSize, left_out| Crossings::of_proximity(&[at])?.r(left_out, Standardise::Within);
            let contrast = |left_out| Ok(r(first, left_out)? - r(last, left_out)?);
            over_seeds(Crossings::of_proximity(&[first, last])?.seeds(), contrast, Scale::Plain)
        },
    },
    Claim {
        id: "F3a",
        claim: "Table 3: all eight comparisons favour the mixture",
        contrast: "loss of continued pretraining less that of the mixture, of each comparison: the lowest of them",
        margin: Margin::Loss,
        sense: Sense::Benefit,
        shown_by: "table3",
        test: |evidence, _| {
            let mut all = Vec::new();
            for Continued { mixed, continued, set } in Continued::PAPER {
                for which in [Which::Sft, Which::C4] {
                    for at in evidence.sizes.iter().take(CONTINUED_SIZES) {
                        all.push((format!("{mixed} on {}", at.model), at.gain_over(which, mixed, continued, set)?));
                    }
                }
            }
            least(&all)
        },
    },
    Claim {
        id: "F4a",
        claim: "an early start takes a high weight",
        contrast: "gain of the highest weight over the lowest at the earliest start; smallest size",
        margin: Margin::Loss,
        sense: Sense::Benefit,
        shown_by: "figure4",
        test: |evidence, _| between_corners(evidence, |[low, high, ..]| (high, low)),
    },
    Claim {
        id: "F4b",
        claim: "a late start takes a low weight",
        contrast: "gain of the lowest weight over the highest at the latest start; smallest size",
        margin: Margin::Loss,
        sense: Sense::Benefit,
        shown_by: "figure4",
        test: |evidence, _| between_corners(evidence, |[.., low, high]| (low, high)),
    },
    Claim {
        id: "F4c",
        claim: "a higher weight does not make up for a later start",
        contrast: "10 % from 42 B over 20 % from 63 B, and that over 30 % from 84 B: the lower of both",
        margin: Margin::Loss,
        sense: Sense::Benefit,
        shown_by: "figure4",
        test: |evidence, _| {
            let step = |pair: &[&'static str]| {
                let (before, after) = (pair[0], pair[1]);
                let contrast = |at: &AtSize| at.gain_over(Which::Sft, before, after, PYCODE.name);
                Ok((format!("{before} over {after}"), evidence.over_sizes(GRID_SIZES, contrast)?))
            };
            least(&COMPENSATION.windows(2).map(step).collect::<Result<Vec<_>, Lacks>>()?)
        },
    },
    Claim {
        id: "F5a",
        claim: "the effect on representations is weaker on C4",
        contrast: "the difference of finding 5 probed with APPS, less the same probed with general text; mean over sizes",
        margin: Margin::Cka,
        sense: Sense::Benefit,
        shown_by: "figure11, figure12, figure13",
        test: |evidence, _| {
            let contrast = |at: &AtSize| less(&shift(at, "APPS")?, &shift(at, "C4")?);
            evidence.over_sizes(evidence.sizes.len(), contrast).map(|v| Tested::mean(&v))
        },
    },
];

/// One list less another, place by place.
fn less(left: &[f64], right: &[f64]) -> Result<Vec<f64>, Lacks> {
    if left.len() != right.len() {
        return Err("some lack a seed that others have".to_owned());
    }
    Ok(left.iter().zip(right).map(|(a, b)| a - b).collect())
}

fn matched(at: &AtSize, which: Which) -> Result<Vec<f64>, Lacks> {
    mean_of(&MATCHED.iter().map(|(mix, set)| at.gain(which, mix, set)).collect::<Result<Vec<_>, _>>()?)
}

fn mismatched(at: &AtSize) -> Result<Vec<f64>, Lacks> {
    let pairs = at.mixes.iter().flat_map(|mix| at.sets.iter().map(move |set| (mix.as_str(), set.as_str())));
    let others = pairs.filter(|pair| !MATCHED.contains(pair));
    mean_of(&others.map(|(mix, set)| at.gain(Which::Sft, mix, set)).collect::<Result<Vec<_>, _>>()?)
}

fn corners(at: &AtSize) -> Result<&[String; 4], Lacks> {
    at.corners.as_ref().ok_or_else(|| format!("{} has no grid of starts and weights", at.model))
}

/// What one corner of the grid gains over another.
fn between_corners(evidence: &Evidence, pair: fn(&[String; 4]) -> (&String, &String)) -> Result<Tested, Lacks> {
    let contrast = |at: &AtSize| {
        let (arm, over) = pair(corners(at)?);
        at.gain_over(Which::Sft, arm, over, PYCODE.name)
    };
    evidence.over_sizes(GRID_SIZES, contrast).map(|v| Tested::mean(&v))
}

fn shift(at: &AtSize, probe: &str) -> Result<Vec<f64>, Lacks> {
    at.shifts.get(probe).cloned().ok_or_else(|| format!("{} has no CKA probed with {probe}", at.model))
}

/// The least favourable of several contrasts, all of which must hold.
fn least(contrasts: &[(String, Vec<f64>)]) -> Result<Tested, Lacks> {
    Tested::least(contrasts).ok_or_else(|| "nothing to compare".to_owned())
}

/// A mix's gain over each of the others on a set.
fn best(evidence: &Evidence, mix: &str, set: &str) -> Result<Tested, Lacks> {
    let others = evidence.sizes.first().map(|at| at.mixes.iter().filter(|other| *other != mix)).into_iter().flatten();
    let over = |other: &String| {
        let contrast = |at: &AtSize| at.gain_over(Which::Sft, mix, other, set);
        Ok((format!("over {other}"), evidence.over_sizes(evidence.sizes.len(), contrast)?))
    };
    least(&others.map(over).collect::<Result<Vec<_>, Lacks>>()?)
}

/// A value of each mix (rows) and set (columns), one a replicate.
type Values = Vec<Vec<Vec<f64>>>;

fn gains(at: &AtSize, which: Which) -> Result<Values, Lacks> {
    let of_mix = |mix: &String| at.sets.iter().map(|set| at.gain(which, mix, set)).collect();
    at.mixes.iter().map(of_mix).collect()
}

/// Proximity advantages: the same for all replicates.
fn advantages(at: &AtSize) -> Result<Values, Lacks> {
    let of = |mix: &String, set: &String| {
        let found = at.advantages.get(&(mix.clone(), set.clone()));
        found
            .map(|value| vec![*value])
            .ok_or_else(|| format!("{} has no proximity advantage of {mix} towards {set}", at.model))
    };
    at.mixes.iter().map(|mix| at.sets.iter().map(|set| of(mix, set)).collect()).collect()
}

/// Two values of each mix on each set of some sizes.
struct Crossings {
    x: Values,
    y: Values,
}

/// What is done to values before they are correlated.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standardise {
    /// Standardised within each set of each size.
    Within,
    /// Nothing.
    No,
}

/// How a value is found at a size.
type OfSize = fn(&AtSize) -> Result<Values, Lacks>;

impl Crossings {
    /// A column a set of each size.
    fn of(sizes: &[&AtSize], x: OfSize, y: OfSize) -> Result<Self, Lacks> {
        let beside = |values: OfSize| -> Result<Values, Lacks> {
            let mut rows = Values::new();
            for at in sizes {
                let of_size = values(at)?;
                rows.resize(of_size.len(), Vec::new());
                rows.iter_mut().zip(of_size).for_each(|(row, cells)| row.extend(cells));
            }
            Ok(rows)
        };
        Ok(Self { x: beside(x)?, y: beside(y)? })
    }

    fn of_proximity(sizes: &[&AtSize]) -> Result<Self, Lacks> {
        Self::of(sizes, advantages, |at| gains(at, Which::Sft))
    }

    /// Seeds; what is the same for all, as proximity is, counts for each.
    fn seeds(&self) -> usize {
        self.x.iter().chain(&self.y).flatten().map(Vec::len).max().unwrap_or(0)
    }

    /// Means over seeds, of all but one where one is left out.
    fn crossed(&self, left_out: Option<usize>, standardise: Standardise) -> Result<Crossed, Lacks> {
        let mean = |cell: &Vec<f64>| match cell.as_slice() {
            [only] => *only,
            all => {
                let kept = all.iter().enumerate().filter(|(i, _)| Some(*i) != left_out).map(|(_, value)| *value);
                Summary::of(&kept.collect::<Vec<_>>()).mean
            }
        };
        let means = |values: &Values| values.iter().map(|row| row.iter().map(mean).collect()).collect();
        let crossed = Crossed::new(means(&self.x), means(&self.y));
        match standardise {
            Standardise::Within => crossed.and_then(|crossed| crossed.standardised()),
            Standardise::No => crossed,
        }
        .map_err(|e| e.to_string())
    }

    fn r(&self, left_out: Option<usize>, standardise: Standardise) -> Result<f64, Lacks> {
        self.crossed(left_out, standardise)?.r().map_err(|e| e.to_string())
    }
}

/// What all seeds show, and how sure that is.
fn over_seeds(
    seeds: usize,
    value: impl Fn(Option<usize>) -> Result<f64, Lacks>,
    scale: Scale,
) -> Result<Tested, Lacks> {
    let all = value(None)?;
    let without =
        if seeds > 1 { (0..seeds).map(|i| value(Some(i))).collect::<Result<Vec<_>, _>>()? } else { vec![all] };
    Ok(Tested::jackknife(all, &without, scale))
}

/// The correlation of means over seeds, with p from exchanging mixes: it must hold for other seeds and for other mixes.
fn exchanged(evidence: &Evidence, crossings: &Crossings, standardise: Standardise) -> Result<Tested, Lacks> {
    if !evidence.exchangeable {
        return Err("mixes share a source, so that they cannot be exchanged".to_owned());
    }
    let test = crossings.crossed(None, standardise)?;
    if test.arms() < 3 {
        return Err("fewer than three mixes cannot be told from each other by exchanging them".to_owned());
    }
    let test = test.permute_arms(PERMUTATIONS, evidence.seed).map_err(|e| e.to_string())?;
    let tested = over_seeds(crossings.seeds(), |left_out| crossings.r(left_out, standardise), Scale::Fisher)?;
    let p = tested.p.map_or(test.p(), |p| p.max(test.p()));
    let note = format!("p by exchanging mixes {:.4}, at least {:.4}", test.p(), test.least_p());
    Ok(Tested { p: Some(p), note: Some(note), ..tested })
}

/// How gains on the set and on general text go together.
pub(super) fn improvement_and_retention(evidence: &Evidence) -> Result<Tested, Lacks> {
    let sizes: Vec<&AtSize> = evidence.sizes.iter().collect();
    let crossings = Crossings::of(&sizes, |at| gains(at, Which::Sft), |at| gains(at, Which::C4))?;
    exchanged(evidence, &crossings, Standardise::Within)
}

/// How proximity advantage and gains go together, at the first so many sizes.
fn proximity_and_gains(evidence: &Evidence, sizes: usize, standardise: Standardise) -> Result<Tested, Lacks> {
    let sizes: Vec<&AtSize> = evidence.sizes.iter().take(sizes).collect();
    exchanged(evidence, &Crossings::of_proximity(&sizes)?, standardise)
}
