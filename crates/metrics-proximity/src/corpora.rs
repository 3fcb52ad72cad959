//! Corpora, mixtures of them, and targets, compared with each other.

use jackknife::Jackknifed;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::draws::{Circle, Draw, End, Side};
use crate::sample::{Logs, Sample};
use crate::{Distribution, Documents, Draws, Error, Similarity, SimilarityMatrix, SimilarityOptions, kl_reduction};

/// Which corpora there are, and what is mixed of them.
#[derive(Debug, Clone)]
pub struct Corpora {
    /// Corpora by name.
    pub corpora: Vec<(String, Documents)>,
    /// The one that mixtures are compared with.
    pub general: usize,
    /// Mixtures: name, and the share of each corpus in it.
    pub mixtures: Vec<(String, Vec<(usize, f64)>)>,
    /// The targets: name, and corpus.
    pub targets: Vec<(String, usize)>,
}

/// The paper's variant: every corpus as it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Observed {
    /// All mixtures, then all targets, with each other. Sizes shift Jaccard and overlap: see its warnings.
    pub matrix: SimilarityMatrix,
    /// PA(M→T) (Eq. 6): mixtures by targets.
    pub advantages: Vec<Vec<f64>>,
    /// KL(T‖general) − KL(T‖M), nats, with 1 % of the uniform distribution mixed in: mixtures by targets.
    pub kl_reductions: Vec<Vec<f64>>,
}

/// What controlled numbers were computed from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Basis {
    /// Tokens of every side.
    pub budget: u64,
    /// The corpus whose halves hold the fewest tokens: it decides the budget where none is given, and with it the level of every
    /// number.
    pub smallest: String,
    /// Draws that each number is the mean of.
    pub draws: usize,
    /// Groups of documents that intervals are over; `None`: too few documents for intervals.
    pub groups: Option<usize>,
}

/// PA(M→T) = prox(M, T) − prox(general, T) (Eq. 6), with the combined score.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Advantage {
    /// PA, and what it is without each group of documents of all corpora involved: its interval is over documents. The
    /// differences of several mixtures' PA have intervals too.
    pub advantage: Jackknifed,
    /// The jackknife's estimate of the bias of PA at this budget, and that estimate's own standard error over the draws; `None`
    /// without groups or with a single draw. Draws are unbiased for their own size, so that nothing but chance should be seen here. It is not taken out.
    pub bias: Option<(f64, f64)>,
    /// prox(M, T)
    pub mixture: f64,
    /// prox(general, T), with general text that differs from the mixture's only where that has something else.
    pub general: f64,
}

/// Level of the intervals of similarities.
const LEVEL: f64 = 0.95;
/// Share of the uniform distribution in KL reductions.
const UNIFORM: f64 = 0.01;

impl Corpora {
    /// Distributions of all corpora.
    ///
    /// # Errors
    /// An empty corpus, with its name.
    pub fn distributions(&self) -> Result<Vec<Distribution>, Error> {
        let of = |(name, documents): &(String, Documents)| {
            Distribution::of(&documents.counts()).map_err(Error::within(name))
        };
        self.corpora.par_iter().map(of).collect()
    }

    /// The paper's variant: vocabularies as observed, a mixture's distribution Σ wᵢ pᵢ.
    ///
    /// # Errors
    /// An empty corpus, an index that names none, weights or options outside their limits.
    pub fn observed(&self, options: &SimilarityOptions) -> Result<Observed, Error> {
        self.validate()?;
        let all = self.distributions()?;
        let mixture = |(name, parts): &(String, Vec<(usize, f64)>)| {
            let parts: Vec<_> = parts.iter().map(|(index, weight)| (&all[*index], *weight)).collect();
            Ok((name.clone(), Distribution::mixture(&parts).map_err(Error::within(name))?))
        };
        let mixtures = self.mixtures.iter().map(mixture).collect::<Result<Vec<_>, Error>>()?;
        let targets: Vec<_> = self.targets.iter().map(|(name, index)| (name.clone(), all[*index].clone())).collect();
        let general = &all[self.general];
        let by_target = |value: &(dyn Fn(&Distribution, &Distribution) -> Result<f64, Error> + Sync)| {
            let row = |(_, m): &(String, Distribution)| targets.iter().map(|(_, t)| value(m, t)).collect();
            mixtures.par_iter().map(row).collect::<Result<Vec<Vec<f64>>, Error>>()
        };
        let advantages = by_target(&|m, t| crate::proximity_advantage(m, general, t, options))?;
        let kl_reductions = by_target(&|m, t| kl_reduction(m, general, t, UNIFORM))?;
        let compared: Vec<_> = mixtures.into_iter().chain(targets).collect();
        Ok(Observed { matrix: SimilarityMatrix::of(&compared, &compared, options)?, advantages, kl_reductions })
    }

    /// Similarities in the controlled variant: of all mixtures, then all targets, with each other, each the mean over seeded
    /// draws of whole documents, the same number of tokens on every side.
    ///
    /// 1. Every draw reads either side from another half of each corpus's documents.
    /// 2. A mixture is so many whole tokens of each of its corpora, in proportion to its weights.
    /// 3. All of it once more without one group of documents of all corpora at a time: the delete-group jackknife.
    ///
    /// What a corpus's size alone changes is how sure a number is, not what it is expected to be. A corpus with itself is one
    /// half of its documents with the other: what two samples of one corpus have in common at this budget.
    ///
    /// # Errors
    /// A corpus of fewer than two documents, a budget that one does not hold, an index that names none, weights or options
    /// outside their limits.
    pub fn similarities(&self, options: &SimilarityOptions, draws: &Draws) -> Result<(Basis, SimilarityMatrix), Error> {
        let drawing = Drawing::new(self, options, draws)?;
        let rows = self.mixtures.len() + self.targets.len();
        let found = drawing.replicates(|draw| drawing.similarities(draw));
        let cell = |row: usize, column: usize| {
            let pair = pair(row.min(column), row.max(column), rows);
            let turn = |s: &Similarity| if row <= column { *s } else { s.turned() };
            let found: [Jackknifed; 8] = std::array::from_fn(|i| found.of(|drawn| turn(&drawn[pair]).values()[i]));
            let ends =
                found.each_ref().map(|j| j.bounded_interval(LEVEL, (0.0, 1.0)).unwrap_or((j.value(), j.value())));
            let (low, high) = (ends.map(|(low, _)| low), ends.map(|(_, high)| high));
            let of = Similarity::from_values;
            (of(found.each_ref().map(Jackknifed::value)), (of(low), of(high)))
        };
        let grid: Vec<Vec<_>> =
            (0..rows).into_par_iter().map(|row| (0..rows).map(|column| cell(row, column)).collect()).collect();
        let labels = self.mixtures.iter().map(|(name, _)| name).chain(self.targets.iter().map(|(name, _)| name));
        let labels: Vec<String> = labels.cloned().collect();
        let intervals = || grid.iter().map(|row| row.iter().map(|(_, ends)| *ends).collect()).collect();
        let matrix = SimilarityMatrix {
            rows: labels.clone(),
            columns: labels,
            cells: grid.iter().map(|row| row.iter().map(|(value, _)| *value).collect()).collect(),
            intervals: drawing.basis.groups.map(|_| intervals()),
            warnings: Vec::new(),
        };
        Ok((drawing.basis.clone(), matrix))
    }

    /// PA of mixtures by targets in the controlled variant, from the same kind of draws as
    /// [`similarities`](Self::similarities). The general text is what the mixture has of it, and as many tokens more as the
    /// mixture has of others: with nothing mixed in, PA is 0 in every draw.
    ///
    /// # Errors
    /// As for [`similarities`](Self::similarities).
    pub fn advantages(
        &self,
        options: &SimilarityOptions,
        draws: &Draws,
    ) -> Result<(Basis, Vec<Vec<Advantage>>), Error> {
        let drawing = Drawing::new(self, options, draws)?;
        let found = drawing.replicates(|draw| drawing.advantages(draw));
        let advantage = |mixture: usize, target: usize| {
            let of =
                |value: fn((f64, f64)) -> f64| found.of(|drawn| value(drawn[mixture * self.targets.len() + target]));
            Advantage {
                advantage: of(|(mixture, general)| mixture - general),
                bias: found.bias(|drawn| {
                    let (mixture, general) = drawn[mixture * self.targets.len() + target];
                    mixture - general
                }),
                mixture: of(|(mixture, _)| mixture).value(),
                general: of(|(_, general)| general).value(),
            }
        };
        let of = |mixture: usize| (0..self.targets.len()).map(|target| advantage(mixture, target)).collect();
        Ok((drawing.basis.clone(), (0..self.mixtures.len()).map(of).collect()))
    }

    /// Indices, weights and vocabularies.
    fn validate(&self) -> Result<(), Error> {
        let named = |what: &str, index: usize| match index < self.corpora.len() {
            true => Ok(()),
            false => Err(Error::Corpus { what: what.to_owned(), index, corpora: self.corpora.len() }),
        };
        named("general", self.general)?;
        self.targets.iter().try_for_each(|(name, index)| named(name, *index))?;
        for (name, parts) in &self.mixtures {
            parts.iter().try_for_each(|(index, _)| named(name, *index))?;
            let weights: Vec<f64> = parts.iter().map(|(_, weight)| *weight).collect();
            if weights.iter().any(|w| !(0.0..=1.0).contains(w)) || (weights.iter().sum::<f64>() - 1.0).abs() > 1e-9 {
                return Err(Error::within(name)(Error::Weights { weights }));
            }
        }
        let vocabulary = self.corpora[self.general].1.vocabulary();
        match self.corpora.iter().find(|(_, documents)| documents.vocabulary() != vocabulary) {
            Some((name, other)) => {
                Err(Error::within(name)(Error::Vocabulary { left: vocabulary, right: other.vocabulary() }))
            }
            None => Ok(()),
        }
    }
}

/// The place of a pair of rows, the first not after the second, among all pairs.
fn pair(first: usize, second: usize, rows: usize) -> usize {
    first * rows - first * (first + 1) / 2 + second
}

/// Everything that is needed for a draw.
struct Drawing<'a> {
    corpora: &'a Corpora,
    options: &'a SimilarityOptions,
    circles: Vec<Circle<'a>>,
    /// Whole tokens of each part of each mixture.
    mixtures: Vec<Vec<(usize, u64)>>,
    basis: Basis,
    vocabulary: usize,
    logs: Logs,
}

/// What each draw gives, for everything and then for everything less each group.
struct Replicates<T> {
    draws: Vec<Vec<T>>,
    per_mean: usize,
}

impl<T> Replicates<T> {
    /// (G − 1)·(mean without a group − value) of each draw: their mean, and its standard error. What takes the place of documents
    /// that are left out is much the same for all groups of a draw: it moves this estimate, and the error says by how much.
    fn bias(&self, value: impl Fn(&[T]) -> f64) -> Option<(f64, f64)> {
        let (draws, groups) = (self.per_mean, (self.draws.len() / self.per_mean).checked_sub(1).filter(|g| *g > 1)?);
        let of_draw = |draw: usize| {
            let whole = value(&self.draws[draw]);
            let without = (1..=groups).map(|group| value(&self.draws[group * draws + draw]) - whole).sum::<f64>();
            (groups - 1) as f64 * without / groups as f64
        };
        let of_draws: Vec<f64> = (0..draws).map(of_draw).collect();
        let mean = of_draws.iter().sum::<f64>() / draws as f64;
        let spread = of_draws.iter().map(|b| (b - mean).powi(2)).sum::<f64>();
        // A single draw says nothing of its spread.
        let error = (draws > 1).then(|| (spread / (draws - 1) as f64 / draws as f64).sqrt())?;
        Some((mean, error))
    }

    fn of(&self, value: impl Fn(&[T]) -> f64) -> Jackknifed {
        let mean = |draws: &[Vec<T>]| draws.iter().map(|drawn| value(drawn)).sum::<f64>() / draws.len() as f64;
        let mut means = self.draws.chunks(self.per_mean).map(mean);
        let value = means.next().unwrap_or(f64::NAN);
        let without: Vec<f64> = means.collect();
        // Every G-th document of each corpus: groups that differ by a document at most are taken as equal.
        let sizes = vec![1; without.len()];
        Jackknifed::new(value, without, sizes).expect("means of similarities, one for each group")
    }
}

impl<'a> Drawing<'a> {
    fn new(corpora: &'a Corpora, options: &'a SimilarityOptions, draws: &Draws) -> Result<Self, Error> {
        draws.validate()?;
        options.validate()?;
        corpora.validate()?;
        for (name, documents) in &corpora.corpora {
            if documents.len() < 2 {
                return Err(Error::within(name)(Error::Documents { documents: documents.len() }));
            }
        }
        let fewest = corpora.corpora.iter().map(|(_, documents)| documents.len()).min().unwrap_or(0);
        let groups = Some(draws.groups.min(fewest / 2)).filter(|groups| *groups >= Draws::LEAST_GROUPS);
        let circles: Vec<Circle<'_>> =
            corpora.corpora.iter().map(|(name, documents)| Circle::new(documents, draws.seed, name)).collect();
        let most = circles.par_iter().map(|circle| circle.most(draws.draws, groups));
        let (most, smallest) = most
            .collect::<Vec<u64>>()
            .into_iter()
            .zip(&corpora.corpora)
            .min_by_key(|(most, _)| *most)
            .unwrap_or_else(|| unreachable!("validation found the general corpus among the corpora"));
        let budget = draws.budget.unwrap_or(most);
        if budget > most || budget == 0 {
            return Err(Error::Budget { budget, corpus: smallest.0.clone(), most });
        }
        let mixtures = corpora.mixtures.iter().map(|(_, parts)| whole_tokens(parts, budget)).collect();
        let vocabulary = corpora.corpora[corpora.general].1.vocabulary();
        let basis = Basis { budget, smallest: smallest.0.clone(), draws: draws.draws, groups };
        Ok(Self { corpora, options, circles, mixtures, basis, vocabulary, logs: Logs::new() })
    }

    /// Everything, then everything less each group.
    fn replicates<T: Send>(&self, of_draw: impl Fn(Draw) -> Vec<T> + Send + Sync) -> Replicates<T> {
        let Basis { draws: of, groups, .. } = self.basis;
        let groups = groups.unwrap_or(0);
        let without = std::iter::once(None).chain((0..groups).map(|group| Some((group, groups))));
        let tasks: Vec<Draw> =
            without.flat_map(|without| (0..of).map(move |index| Draw { index, of, without })).collect();
        Replicates { draws: tasks.into_par_iter().map(of_draw).collect(), per_mean: of }
    }

    /// So many tokens of each of these corpora; `more`: tokens of the general corpus from the other end of its half.
    fn sample(&self, draw: Draw, side: Side, parts: &[(usize, u64)], more: u64) -> Sample {
        let mut counts = vec![0; self.vocabulary];
        for (corpus, tokens) in parts {
            self.circles[*corpus].count(draw, side, End::Front, *tokens, &mut counts);
        }
        self.circles[self.corpora.general].count(draw, side, End::Back, more, &mut counts);
        Sample::of(counts)
    }

    fn targets(&self) -> impl Iterator<Item = Vec<(usize, u64)>> {
        self.corpora.targets.iter().map(|(_, corpus)| vec![(*corpus, self.basis.budget)])
    }

    fn compare(&self, a: &Sample, b: &Sample) -> Similarity {
        a.similarity(b, self.options, &self.logs)
    }

    /// Of all pairs of rows.
    fn similarities(&self, draw: Draw) -> Vec<Similarity> {
        let rows: Vec<Vec<(usize, u64)>> = self.mixtures.iter().cloned().chain(self.targets()).collect();
        let of = |side: Side| rows.iter().map(|parts| self.sample(draw, side, parts, 0)).collect::<Vec<Sample>>();
        let (left, right) = (of(Side::Left), of(Side::Right));
        let pairs = left.iter().enumerate().flat_map(|(i, a)| right[i..].iter().map(move |b| (a, b)));
        pairs.map(|(a, b)| self.compare(a, b)).collect()
    }

    /// prox(M, T) and prox(general, T), mixtures by targets.
    fn advantages(&self, draw: Draw) -> Vec<(f64, f64)> {
        let targets: Vec<Sample> = self.targets().map(|parts| self.sample(draw, Side::Right, &parts, 0)).collect();
        let mut out = Vec::new();
        for parts in &self.mixtures {
            let kept: Vec<_> = parts.iter().copied().filter(|(corpus, _)| *corpus == self.corpora.general).collect();
            let more = self.basis.budget - kept.iter().map(|(_, tokens)| tokens).sum::<u64>();
            let (mixture, general) =
                (self.sample(draw, Side::Left, parts, 0), self.sample(draw, Side::Left, &kept, more));
            let combined = |side: &Sample, target: &Sample| self.compare(side, target).combined;
            out.extend(targets.iter().map(|t| (combined(&mixture, t), combined(&general, t))));
        }
        out
    }
}

/// A budget in proportion to weights, in whole tokens: what is left by rounding down goes to the largest remainders.
fn whole_tokens(parts: &[(usize, f64)], budget: u64) -> Vec<(usize, u64)> {
    // A corpus that is named twice is one part: both would read the same documents.
    let mut merged: Vec<(usize, f64)> = Vec::new();
    for (corpus, weight) in parts {
        match merged.iter_mut().find(|(known, _)| known == corpus) {
            Some((_, whole)) => *whole += weight,
            None => merged.push((*corpus, *weight)),
        }
    }
    let exact = |weight: f64| weight * budget as f64;
    let mut out: Vec<(usize, u64)> =
        merged.iter().map(|(corpus, weight)| (*corpus, (exact(*weight).floor() as u64).min(budget))).collect();
    let mut order: Vec<usize> = (0..out.len()).collect();
    order.sort_by(|a, b| exact(merged[*b].1).fract().total_cmp(&exact(merged[*a].1).fract()));
    let left = budget.saturating_sub(out.iter().map(|(_, tokens)| tokens).sum());
    (0..left as usize).for_each(|i| out[order[i % order.len()]].1 += 1);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_are_shared_out_in_whole_tokens() {
        assert_eq!(whole_tokens(&[(0, 0.8), (1, 0.2)], 101), [(0, 81), (1, 20)]);
        assert_eq!(whole_tokens(&[(0, 1.0), (1, 0.0)], 7), [(0, 7), (1, 0)]);
        assert_eq!(whole_tokens(&[(0, 0.5), (1, 0.25), (0, 0.25)], 10), [(0, 8), (1, 2)]);
        let thirds = whole_tokens(&[(0, 1.0 / 3.0), (1, 1.0 / 3.0), (2, 1.0 / 3.0)], 100);
        assert_eq!(thirds.iter().map(|(_, tokens)| tokens).sum::<u64>(), 100);
    }

    #[test]
    fn pairs_are_counted_row_by_row() {
        let order = [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)];
        assert!(order.into_iter().enumerate().all(|(place, (a, b))| pair(a, b, 3) == place));
    }
}
