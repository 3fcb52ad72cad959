//! Proximity advantage of many mixtures towards many targets, with its interval over documents and its noise floor.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{Distribution, DocumentCounts, Error, SimilarityOptions, kl_reduction, similarity};

/// Which corpora there are, and what is mixed of them.
#[derive(Debug, Clone)]
pub struct Corpora {
    /// Corpora by name.
    pub corpora: Vec<(String, DocumentCounts)>,
    /// The one that mixtures are compared with.
    pub general: usize,
    /// Mixtures: name, and the weight of each corpus in it.
    pub mixtures: Vec<(String, Vec<(usize, f64)>)>,
    /// The targets.
    pub targets: Vec<usize>,
}

/// How uncertainty is measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Resampling {
    /// Draws of the bootstrap over documents.
    pub resamples: u64,
    /// Random halvings of the general corpus.
    pub splits: u64,
    /// Seed of both.
    pub seed: u64,
    /// Level of intervals and of the noise floor, such as 0.95.
    pub level: f64,
}

impl Default for Resampling {
    fn default() -> Self {
        Self { resamples: 200, splits: 40, seed: 0, level: 0.95 }
    }
}

/// PA of a mixture towards a target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Advantage {
    /// The mixture, an index.
    pub mixture: usize,
    /// The target, an index into the landscape's targets.
    pub target: usize,
    /// PA(M→T) (Eq. 6).
    pub value: f64,
    /// Interval over documents of all corpora involved, `None` without resamples: percentiles of the draws, moved by
    /// value − mean of the draws. (A draw with replacement misses a third of the documents and with them rare tokens, so
    /// that draws lie to one side of the value.)
    pub interval: Option<(f64, f64)>,
    /// Mean of the draws less the value: what was taken out of the interval.
    pub bootstrap_bias: Option<f64>,
    /// How large |PA| becomes where nothing is mixed in: the quantile at `level` of |prox(half, T) − prox(other half, T)|
    /// over random halves of the general corpus. `None` without splits.
    pub noise_floor: Option<f64>,
    /// KL(T‖general) − KL(T‖M), nats, with 1 % of the uniform distribution mixed in.
    pub kl_reduction: f64,
}

/// Share of the uniform distribution in [`Advantage::kl_reduction`].
const UNIFORM: f64 = 0.01;

impl Corpora {
    /// Distributions of all corpora.
    ///
    /// # Errors
    /// An empty corpus, with its name.
    pub fn distributions(&self) -> Result<Vec<Distribution>, Error> {
        let of = |(name, documents): &(String, DocumentCounts)| {
            Distribution::of(&documents.total()).map_err(Error::within(name))
        };
        self.corpora.par_iter().map(of).collect()
    }

    /// The mixtures of given distributions, by name.
    ///
    /// # Errors
    /// Weights that are none, an index that names no corpus.
    pub fn mixed(&self, corpora: &[Distribution]) -> Result<Vec<(String, Distribution)>, Error> {
        let mix = |(name, parts): &(String, Vec<(usize, f64)>)| {
            let parts = parts.iter().map(|(index, weight)| Ok((self.corpus(name, *index, corpora)?, *weight)));
            let mixture = Distribution::mixture(&parts.collect::<Result<Vec<_>, Error>>()?);
            Ok((name.clone(), mixture.map_err(Error::within(name))?))
        };
        self.mixtures.iter().map(mix).collect()
    }

    /// The targets of given distributions, by name.
    ///
    /// # Errors
    /// An index that names no corpus.
    pub fn target_distributions(&self, corpora: &[Distribution]) -> Result<Vec<(String, Distribution)>, Error> {
        let target = |index: &usize| Ok((self.corpora[*index].0.clone(), corpora[*index].clone()));
        self.targets.iter().map(|index| self.corpus("targets", *index, corpora).and_then(|_| target(index))).collect()
    }

    fn corpus<'a>(&self, what: &str, index: usize, corpora: &'a [Distribution]) -> Result<&'a Distribution, Error> {
        let error = || Error::Corpus { what: what.to_owned(), index, corpora: corpora.len() };
        corpora.get(index).ok_or_else(error)
    }

    /// PA of every mixture towards every target.
    ///
    /// # Errors
    /// An empty corpus, an index that names no corpus, weights or options outside their limits.
    pub fn advantages(&self, options: &SimilarityOptions, resampling: &Resampling) -> Result<Vec<Advantage>, Error> {
        let level = resampling.level;
        if !(level > 0.0 && level < 1.0) {
            return Err(Error::Option { field: "level", value: level, limit: "must be between 0 and 1" });
        }
        let all = self.distributions()?;
        let (mixtures, targets) = (self.mixed(&all)?, self.target_distributions(&all)?);
        let general = self.corpus("general", self.general, &all)?;
        let values = self.scores(&all, options)?;
        // One draw of all corpora serves every pair; draws are independent of each other, so they run side by side.
        let draws = (0..resampling.resamples).into_par_iter().map(|index| {
            let corpora = self.corpora.iter().enumerate().map(|(i, (name, documents))| {
                let seed = resampling.seed.wrapping_add(i as u64);
                Distribution::of(&documents.resample(seed, index)).map_err(Error::within(name))
            });
            self.scores(&corpora.collect::<Result<Vec<_>, _>>()?, options)
        });
        let draws = draws.collect::<Result<Vec<_>, Error>>()?;
        let floors = self.noise_floors(&targets, options, resampling)?;
        let mut out = Vec::new();
        for (mixture, (_, mixed)) in mixtures.iter().enumerate() {
            for (target, (_, wanted)) in targets.iter().enumerate() {
                let place = mixture * targets.len() + target;
                let drawn: Vec<f64> = draws.iter().map(|values| values[place]).collect();
                let bias = drawn.iter().sum::<f64>() / drawn.len() as f64 - values[place];
                let end = |share: f64| quantile(&drawn, share).map(|q| q - bias);
                out.push(Advantage {
                    mixture,
                    target,
                    value: values[place],
                    interval: end((1.0 - level) / 2.0).zip(end((1.0 + level) / 2.0)),
                    bootstrap_bias: (!drawn.is_empty()).then_some(bias),
                    noise_floor: floors.as_ref().map(|floors| floors[target]),
                    kl_reduction: kl_reduction(mixed, general, wanted, UNIFORM)?,
                });
            }
        }
        Ok(out)
    }

    /// PA, mixtures by targets.
    fn scores(&self, corpora: &[Distribution], options: &SimilarityOptions) -> Result<Vec<f64>, Error> {
        let (mixtures, targets) = (self.mixed(corpora)?, self.target_distributions(corpora)?);
        let general = self.corpus("general", self.general, corpora)?;
        let score = |a: &Distribution, b: &Distribution| Ok::<f64, Error>(similarity(a, b, options)?.combined);
        let base = targets.iter().map(|(_, t)| score(general, t)).collect::<Result<Vec<_>, _>>()?;
        let mut out = Vec::with_capacity(mixtures.len() * targets.len());
        for (_, mixture) in &mixtures {
            for ((_, target), base) in targets.iter().zip(&base) {
                out.push(score(mixture, target)? - base);
            }
        }
        Ok(out)
    }

    fn noise_floors(
        &self,
        targets: &[(String, Distribution)],
        options: &SimilarityOptions,
        resampling: &Resampling,
    ) -> Result<Option<Vec<f64>>, Error> {
        let (name, general) = &self.corpora[self.general];
        if resampling.splits == 0 || general.len() < 2 {
            return Ok(None);
        }
        let splits = (0..resampling.splits).into_par_iter().map(|index| {
            let (a, b) = general.halves(resampling.seed, index);
            let of = |counts| Distribution::of(&counts).map_err(Error::within(name));
            let (a, b) = (of(a)?, of(b)?);
            let gap = |(_, target): &(String, Distribution)| {
                Ok((similarity(&a, target, options)?.combined - similarity(&b, target, options)?.combined).abs())
            };
            targets.iter().map(gap).collect::<Result<Vec<f64>, Error>>()
        });
        let splits = splits.collect::<Result<Vec<_>, Error>>()?;
        let floor = |target: usize| {
            let gaps: Vec<f64> = splits.iter().map(|gaps| gaps[target]).collect();
            quantile(&gaps, resampling.level).unwrap_or(f64::NAN)
        };
        Ok(Some((0..targets.len()).map(floor).collect()))
    }
}

/// With linear interpolation between order statistics; `None` of nothing.
fn quantile(values: &[f64], share: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = share * sorted.len().checked_sub(1)? as f64;
    let (low, part) = (place.floor() as usize, place.fract());
    let high = (low + 1).min(sorted.len() - 1);
    Some(sorted[low] + part * (sorted[high] - sorted[low]))
}
