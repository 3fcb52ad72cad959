//! The claims, each with its contrast and its margin, as they were written down before any result was seen.
//!
//! Gains are shares of the control's mean loss; a contrast is above 0 where the claim is true.

use forgetting_eval::{Crossed, pearson};

use super::evidence::{AtSize, Evidence, Lacks, Which, mean_of};
use super::verdict::Tested;
use crate::protocol::{CONTINUED_MATH, CONTINUED_STARCODER, FLAN, GSM8K, MATH, PYCODE, STARCODER};
use crate::question::figure4::COMPENSATION;

/// Permutations of mixes: all of them up to seven mixes.
const PERMUTATIONS: usize = 10_000;
/// Correlations below this are of no account.
const MARGIN_OF_R: f64 = 0.3;
/// Differences of CKA below this are of no account.
const MARGIN_OF_CKA: f64 = 0.01;
/// The paper compares with continued pretraining at its two smallest sizes.
pub(super) const CONTINUED_SIZES: usize = 2;
/// The grid of starts and weights is that of the smallest size.
pub(super) const GRID_SIZES: usize = 1;

/// Mixes and the sets that they match.
const MATCHED: [(&str, &str); 2] = [(STARCODER.name, PYCODE.name), (MATH.name, GSM8K.name)];
/// What is compared with continued pretraining.
const CONTINUED: [(&str, &str, &str); 2] =
    [(STARCODER.name, CONTINUED_STARCODER.name, PYCODE.name), (MATH.name, CONTINUED_MATH.name, GSM8K.name)];

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
    /// Its number: that of a finding, with a letter for a part of it.
    pub(super) id: &'static str,
    /// What is claimed, in the paper's sense: a few words, for a table and a picture.
    pub(super) claim: &'static str,
    /// What is computed.
    pub(super) contrast: &'static str,
    pub(super) margin: Margin,
    /// What shows it.
    pub(super) shown_by: &'static str,
    pub(super) test: fn(&Evidence, f64) -> Result<Tested, Lacks>,
}

/// The five findings, in the paper's order: p is adjusted over these.
pub(super) const FINDINGS: [Claim; 5] = [
    Claim {
        id: "1",
        claim: "gains follow the domain",
        contrast: "mean gain of the two matched pairs (code on Pycode, mathematics on GSM8K), less the mean gain of all other pairs of a \
                   mix and a set; mean over sizes",
        margin: Margin::Loss,
        shown_by: "table2, table8",
        test: |evidence, _| {
            let all = evidence.sizes.len();
            evidence.over_sizes(all, |at| less(&matched(at, Which::Sft)?, &mismatched(at)?)).map(|v| Tested::mean(&v))
        },
    },
    Claim {
        id: "2",
        claim: "proximity predicts gains",
        contrast: "r of proximity advantage and gain, both standardised within sets, over all sets and sizes; p from exchanging mixes, or \
                   over seeds where that is higher",
        margin: Margin::Correlation,
        shown_by: "figure3",
        test: |evidence, _| exchanged(evidence, advantages, |at| gains(at, Which::Sft)),
    },
    Claim {
        id: "3",
        claim: "mixing beats continuing",
        contrast: "loss of continued pretraining less that of the mixture, mean over both domains and both losses (set, general text) and \
                   over the two smallest sizes",
        margin: Margin::Loss,
        shown_by: "table3",
        test: |evidence, _| {
            let contrast = |at: &AtSize| {
                let each =
                    CONTINUED.iter().flat_map(|c| [Which::Sft, Which::C4].map(|which| over_continued(at, which, *c)));
                mean_of(&each.collect::<Result<Vec<_>, _>>()?)
            };
            evidence.over_sizes(CONTINUED_SIZES, contrast).map(|v| Tested::mean(&v))
        },
    },
    Claim {
        id: "4",
        claim: "start and weight interact",
        contrast: "what the highest weight gains over the lowest at the earliest start, less what it gains at the latest; smallest size",
        margin: Margin::Loss,
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
        id: "5",
        claim: "the last layer is steadier",
        contrast: "CKA of the last layer before and after fine-tuning on Pycode, midtrained on code less base, probed with APPS; mean over \
                   sizes",
        margin: Margin::Cka,
        shown_by: "figure6, figure9, figure10",
        test: |evidence, _| evidence.over_sizes(evidence.sizes.len(), |at| shift(at, "APPS")).map(|v| Tested::mean(&v)),
    },
];

/// What else the paper says: each stands for itself.
pub(super) const PARTS: [Claim; 13] = [
    Claim {
        id: "1a",
        claim: "code is the best mix for Pycode",
        contrast: "gain of the code mix less that of the best other mix: the interval of the least favourable one",
        margin: Margin::Loss,
        shown_by: "table2, table8",
        test: |evidence, _| best(evidence, STARCODER.name, PYCODE.name),
    },
    Claim {
        id: "1b",
        claim: "mathematics is the best mix for GSM8K",
        contrast: "gain of the mathematics mix less that of the best other mix: the interval of the least favourable one",
        margin: Margin::Loss,
        shown_by: "table2, table8",
        test: |evidence, _| best(evidence, MATH.name, GSM8K.name),
    },
    Claim {
        id: "1c",
        claim: "mismatched mixes give little",
        contrast: "δ less the mean gain of all mismatched pairs",
        margin: Margin::Loss,
        shown_by: "table2, table8",
        test: |evidence, margin| {
            let values = evidence.over_sizes(evidence.sizes.len(), mismatched)?;
            Ok(Tested::mean(&values.iter().map(|gain| margin - gain).collect::<Vec<_>>()))
        },
    },
    Claim {
        id: "1d",
        claim: "FLAN has a minimal effect",
        contrast: "δ less the size of FLAN's mean gain over all sets",
        margin: Margin::Loss,
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
        id: "1e",
        claim: "matched mixes forget less",
        contrast: "mean gain of the two matched pairs in the loss on general text",
        margin: Margin::Loss,
        shown_by: "table2, table8",
        test: |evidence, _| {
            evidence.over_sizes(evidence.sizes.len(), |at| matched(at, Which::C4)).map(|v| Tested::mean(&v))
        },
    },
    Claim {
        id: "1f",
        claim: "improvement and retention go together (r = 0.64)",
        contrast: "r of the gains on the set and on general text, both standardised within sets, over all sets and sizes; p from exchanging \
                   mixes, or over seeds where that is higher",
        margin: Margin::Correlation,
        shown_by: "table2, table8",
        test: |evidence, _| improvement_and_retention(evidence),
    },
    Claim {
        id: "2a",
        claim: "at the smallest size r = 0.869",
        contrast: "r of proximity advantage and gain over all pairs at the smallest size, without standardising; p from exchanging mixes",
        margin: Margin::Correlation,
        shown_by: "figure3",
        test: |evidence, _| {
            let smallest = Evidence { sizes: evidence.sizes.iter().take(1).cloned().collect(), ..evidence.clone() };
            raw(&smallest)
        },
    },
    Claim {
        id: "2b",
        claim: "proximity predicts better at smaller sizes",
        contrast: "r (standardised within sets) at the smallest size less that at the largest",
        margin: Margin::Correlation,
        shown_by: "figure3",
        test: |evidence, _| {
            let ([first, .., last], true) = (evidence.sizes.as_slice(), evidence.sizes.len() > 1) else {
                return Err("there is one size".to_owned());
            };
            let of = |at: &AtSize| correlations(&[at], &advantages, &|at| gains(at, Which::Sft));
            less(&of(first)?, &of(last)?).map(|v| Tested::mean(&v))
        },
    },
    Claim {
        id: "3a",
        claim: "Table 3: all eight comparisons favour the mixture",
        contrast: "loss of continued pretraining less that of the mixture: the interval of the least favourable comparison",
        margin: Margin::Loss,
        shown_by: "table3",
        test: |evidence, _| {
            let mut all = Vec::new();
            for c in CONTINUED {
                for which in [Which::Sft, Which::C4] {
                    for at in evidence.sizes.iter().take(CONTINUED_SIZES) {
                        all.push((format!("{} on {}", c.0, at.model), over_continued(at, which, c)?));
                    }
                }
            }
            least(all)
        },
    },
    Claim {
        id: "4a",
        claim: "an early start takes a high weight",
        contrast: "gain of the highest weight over the lowest at the earliest start; smallest size",
        margin: Margin::Loss,
        shown_by: "figure4",
        test: |evidence, _| {
            let contrast = |at: &AtSize| {
                let [low, high, ..] = corners(at)?;
                at.gain_over(Which::Sft, high, low, PYCODE.name)
            };
            evidence.over_sizes(GRID_SIZES, contrast).map(|v| Tested::mean(&v))
        },
    },
    Claim {
        id: "4b",
        claim: "a late start takes a low weight",
        contrast: "gain of the lowest weight over the highest at the latest start; smallest size",
        margin: Margin::Loss,
        shown_by: "figure4",
        test: |evidence, _| {
            let contrast = |at: &AtSize| {
                let [.., low, high] = corners(at)?;
                at.gain_over(Which::Sft, low, high, PYCODE.name)
            };
            evidence.over_sizes(GRID_SIZES, contrast).map(|v| Tested::mean(&v))
        },
    },
    Claim {
        id: "4c",
        claim: "a higher weight does not make up for a later start",
        contrast: "10 % from 42 B over 20 % from 63 B, and that over 30 % from 84 B: the interval of the least favourable step",
        margin: Margin::Loss,
        shown_by: "figure4",
        test: |evidence, _| {
            let step = |pair: &[&'static str]| {
                let (before, after) = (pair[0], pair[1]);
                let contrast = |at: &AtSize| at.gain_over(Which::Sft, before, after, PYCODE.name);
                Ok((format!("{before} over {after}"), evidence.over_sizes(GRID_SIZES, contrast)?))
            };
            least(COMPENSATION.windows(2).map(step).collect::<Result<_, Lacks>>()?)
        },
    },
    Claim {
        id: "5a",
        claim: "the effect on representations is weaker on C4",
        contrast: "the difference of finding 5 probed with APPS, less the same probed with general text; mean over sizes",
        margin: Margin::Cka,
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

fn over_continued(at: &AtSize, which: Which, (mixed, continued, set): (&str, &str, &str)) -> Result<Vec<f64>, Lacks> {
    at.gain_over(which, mixed, continued, set)
}

fn corners(at: &AtSize) -> Result<&[String; 4], Lacks> {
    at.corners.as_ref().ok_or_else(|| format!("{} has no grid of starts and weights", at.model))
}

fn shift(at: &AtSize, probe: &str) -> Result<Vec<f64>, Lacks> {
    at.shifts.get(probe).cloned().ok_or_else(|| format!("{} has no CKA probed with {probe}", at.model))
}

/// The least favourable of several contrasts, all of which must hold: each at its own level, none has to be adjusted.
fn least(contrasts: Vec<(String, Vec<f64>)>) -> Result<Tested, Lacks> {
    let tested = contrasts.into_iter().map(|(name, values)| (name, Tested::mean(&values)));
    let lower = |t: &Tested| t.interval.map_or(t.value, |(low, _)| low);
    let least = tested.min_by(|a, b| lower(&a.1).total_cmp(&lower(&b.1)));
    let (name, tested) = least.ok_or("nothing to compare")?;
    Ok(Tested { note: Some(format!("least favourable: {name}")), ..tested })
}

/// A mix's gain over each of the others on a set.
fn best(evidence: &Evidence, mix: &str, set: &str) -> Result<Tested, Lacks> {
    let others = evidence.sizes.first().map(|at| at.mixes.iter().filter(|other| *other != mix)).into_iter().flatten();
    let over = |other: &String| {
        let contrast = |at: &AtSize| at.gain_over(Which::Sft, mix, other, set);
        Ok((format!("over {other}"), evidence.over_sizes(evidence.sizes.len(), contrast)?))
    };
    least(others.map(over).collect::<Result<_, Lacks>>()?)
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

/// The mixes' values of one replicate at all sizes: a row a mix, a column a set of a size; of the mean where `replicate` is
/// absent.
fn crossed(
    sizes: &[&AtSize],
    values: &dyn Fn(&AtSize) -> Result<Values, Lacks>,
    replicate: Option<usize>,
) -> Result<Vec<Vec<f64>>, Lacks> {
    let mut rows: Vec<Vec<f64>> = Vec::new();
    for at in sizes {
        let of_size = values(at)?;
        rows.resize(of_size.len(), Vec::new());
        for (row, cells) in rows.iter_mut().zip(of_size) {
            row.extend(cells.iter().map(|cell| match (cell.as_slice(), replicate) {
                ([only], _) => *only,
                (all, Some(i)) => all.get(i).copied().unwrap_or(f64::NAN),
                (all, None) => all.iter().sum::<f64>() / all.len() as f64,
            }));
        }
    }
    Ok(rows)
}

fn standardised(x: Vec<Vec<f64>>, y: Vec<Vec<f64>>) -> Result<Crossed, Lacks> {
    Crossed::new(x, y).and_then(|crossed| crossed.standardised()).map_err(|e| e.to_string())
}

fn replicates(sizes: &[&AtSize], values: &dyn Fn(&AtSize) -> Result<Values, Lacks>) -> Result<usize, Lacks> {
    let mut most = 1;
    for at in sizes {
        most = values(at)?.iter().flatten().map(Vec::len).fold(most, usize::max);
    }
    Ok(most)
}

/// r of two values, standardised within sets, of each replicate.
fn correlations(
    sizes: &[&AtSize],
    x: &dyn Fn(&AtSize) -> Result<Values, Lacks>,
    y: &dyn Fn(&AtSize) -> Result<Values, Lacks>,
) -> Result<Vec<f64>, Lacks> {
    let n = replicates(sizes, x)?.max(replicates(sizes, y)?);
    let of = |i: usize| {
        let crossed = standardised(crossed(sizes, x, Some(i))?, crossed(sizes, y, Some(i))?)?;
        crossed.r().map_err(|e| e.to_string())
    };
    (0..n).map(of).collect()
}

/// How gains on the set and on general text go together.
pub(super) fn improvement_and_retention(evidence: &Evidence) -> Result<Tested, Lacks> {
    exchanged(evidence, |at| gains(at, Which::Sft), |at| gains(at, Which::C4))
}

/// The mean correlation over replicates, with p from exchanging mixes: it must hold for other seeds and for other mixes.
fn exchanged(
    evidence: &Evidence,
    x: fn(&AtSize) -> Result<Values, Lacks>,
    y: fn(&AtSize) -> Result<Values, Lacks>,
) -> Result<Tested, Lacks> {
    let sizes: Vec<&AtSize> = evidence.sizes.iter().collect();
    let test = standardised(crossed(&sizes, &x, None)?, crossed(&sizes, &y, None)?)?;
    if test.arms() < 3 {
        return Err("fewer than three mixes cannot be told from each other by exchanging them".to_owned());
    }
    let test = test.permute_arms(PERMUTATIONS, evidence.seed).map_err(|e| e.to_string())?;
    let tested = Tested::correlation(&correlations(&sizes, &x, &y)?);
    // What one value a size or seed shows has no interval: mixes alone are repeated.
    let p = tested.p.map_or(test.p(), |p| p.max(test.p()));
    let note = format!("p by exchanging mixes {:.4}, at least {:.4}", test.p(), test.least_p());
    Ok(Tested { p: Some(p), note: Some(note), ..tested })
}

/// r over all pairs as they are, one a replicate.
fn raw(evidence: &Evidence) -> Result<Tested, Lacks> {
    let sizes: Vec<&AtSize> = evidence.sizes.iter().collect();
    let y: &dyn Fn(&AtSize) -> Result<Values, Lacks> = &|at| gains(at, Which::Sft);
    let r = |i: Option<usize>| {
        let (x, y) = (crossed(&sizes, &advantages, i)?.concat(), crossed(&sizes, y, i)?.concat());
        pearson(&x, &y).map(|found| found.r).map_err(|e| e.to_string())
    };
    let values = (0..replicates(&sizes, y)?).map(|i| r(Some(i))).collect::<Result<Vec<_>, _>>()?;
    let within = exchanged(evidence, advantages, |at| gains(at, Which::Sft))?;
    let tested = Tested::correlation(&values);
    let p = tested.p.zip(within.p).map(|(own, exchanged)| own.max(exchanged));
    Ok(Tested { p: p.or(within.p), note: within.note, ..tested })
}
