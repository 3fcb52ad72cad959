//! Continuations of a prompt, token by token; keys and values of what was read are kept.

use burn::tensor::{Int, Tensor, TensorData};
use fused_ops::{FusedOps, KeyValues};
use rand::{Rng as _, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{Error, GptNeoX};

/// How the next token is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sampling {
    /// The most probable one; of several the lowest id.
    Greedy,
    /// By chance, among the most probable ones (nucleus sampling, Holtzman et al. 2020).
    Nucleus {
        /// Logits are divided by it; above 0.
        temperature: f64,
        /// The fewest tokens whose probabilities reach this sum are kept; above 0, at most 1.
        top_p: f64,
        /// The same seed gives the same text.
        seed: u64,
    },
}

/// How to continue, and when to stop.
#[derive(Debug, Clone, PartialEq)]
pub struct Continuation {
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// At most so many new tokens.
    pub max_tokens: usize,
    /// The tokens any of which ends the text; it is the last one given.
    pub stop: Vec<u32>,
    /// Only ids below it are chosen: a tokenizer's size, where the model's vocabulary is padded.
    pub vocabulary: Option<usize>,
}

impl Continuation {
    /// The most probable tokens, at most so many.
    pub fn greedy(max_tokens: usize) -> Self {
        Self { sampling: Sampling::Greedy, max_tokens, stop: Vec::new(), vocabulary: None }
    }

    fn check(&self) -> Result<(), Error> {
        if let Sampling::Nucleus { temperature, top_p, .. } = self.sampling {
            if !(temperature.is_finite() && temperature > 0.0) {
                return Err(Error::generate("temperature", temperature, "must be above 0, and finite"));
            }
            if !(top_p > 0.0 && top_p <= 1.0) {
                return Err(Error::generate("top_p", top_p, "must be above 0 and at most 1"));
            }
        }
        if self.vocabulary == Some(0) {
            return Err(Error::generate("vocabulary", 0, "must be at least 1"));
        }
        Ok(())
    }
}

/// Why a continuation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// With this token, one of those that end a text.
    Token(u32),
    /// There were as many as were asked for.
    Count,
    /// The model's positions are used up.
    Positions,
}

/// New tokens, each computed when it is asked for. Ends after the stop token, after as many as were asked for, or when
/// the model's positions are used up.
#[derive(Debug)]
pub struct Generation<'a, B: FusedOps> {
    model: &'a GptNeoX<B>,
    spec: Continuation,
    /// What was chosen or given, and not yet read.
    unread: Vec<u32>,
    read: usize,
    cache: Vec<Option<KeyValues<B>>>,
    rng: ChaCha8Rng,
    left: usize,
    finished: bool,
    ending: Option<Ending>,
    /// What was read, where angles depend on how much that is.
    all: Vec<u32>,
}

impl<B: FusedOps> GptNeoX<B> {
    /// Continues a prompt.
    ///
    /// ```
    /// use fused_ops::backends::Flex;
    /// use gptneox_model::{Continuation, GptNeoX, GptNeoXConfig};
    ///
    /// let model = GptNeoX::<Flex>::init(&GptNeoXConfig::of_size(64, 32, 2, 2), 0, &Default::default())?;
    /// let tokens = model.generate(&[5, 6, 7], Continuation::greedy(4))?.collect::<Result<Vec<u32>, _>>()?;
    /// assert_eq!(tokens.len(), 4);
    /// # Ok::<(), gptneox_model::Error>(())
    /// ```
    ///
    /// # Errors
    /// An empty prompt, one beyond the model's positions, ids beyond its vocabulary, options outside their limits. Each
    /// token is an error if the model's logits are not finite.
    pub fn generate(&self, prompt: &[u32], spec: Continuation) -> Result<Generation<'_, B>, Error> {
        spec.check()?;
        let config = self.config();
        if prompt.is_empty() {
            return Err(Error::generate("prompt", "empty", "must hold at least one token"));
        }
        if prompt.len() > config.longest() {
            let limit = format!("tokens is longer than the model's {} positions", config.longest());
            return Err(Error::generate("prompt of", prompt.len(), limit));
        }
        if let Some(id) = prompt.iter().find(|id| **id as usize >= config.vocab_size) {
            let limit = format!("is not below the model's vocabulary of {}", config.vocab_size);
            return Err(Error::generate("token id", id, limit));
        }
        let seed = if let Sampling::Nucleus { seed, .. } = spec.sampling { seed } else { 0 };
        Ok(Generation {
            model: self,
            unread: prompt.to_vec(),
            read: 0,
            cache: vec![None; config.num_layers],
            rng: ChaCha8Rng::seed_from_u64(seed),
            left: spec.max_tokens,
            finished: false,
            ending: None,
            all: Vec::new(),
            spec,
        })
    }
}

impl<B: FusedOps> Generation<'_, B> {
    /// Why it ended; `None` while it goes on, and after an error.
    pub fn ending(&self) -> Option<Ending> {
        self.ending
    }

    /// The logits after what was read last.
    fn logits(&mut self) -> Vec<f32> {
        let mut ids: Vec<u32> = std::mem::take(&mut self.unread);
        self.read += ids.len();
        if self.model.config().rope_scaling.is_some() {
            self.all.extend(&ids);
            // Keys that were kept have the angles of a shorter sequence: all is read again, as without a cache.
            if self.model.config().changes_with_length(self.read) {
                ids.clone_from(&self.all);
                self.cache.fill(None);
            }
        }
        let time = ids.len();
        let ids: Vec<i32> = ids.into_iter().map(|id| id as i32).collect();
        let ids = Tensor::<B, 2, Int>::from_data(TensorData::new(ids, [1, time]), &self.model.device());
        let logits = self.model.extend(ids, &mut self.cache, self.read).into_data().convert::<f32>();
        logits.into_vec().expect("converted to f32 just above")
    }

    fn choose(&mut self, logits: &[f32]) -> Result<u32, Error> {
        let logits = &logits[..logits.len().min(self.spec.vocabulary.unwrap_or(usize::MAX))];
        if let Some(at) = logits.iter().position(|v| v.is_nan() || *v == f32::INFINITY) {
            return Err(Error::generate("logit of token", at, "is not finite: the model's weights are damaged"));
        }
        match self.spec.sampling {
            Sampling::Greedy => Ok(greedy(logits)),
            Sampling::Nucleus { temperature, top_p, .. } => {
                Ok(nucleus(logits, temperature, top_p, self.rng.random::<f64>()))
            }
        }
    }
}

impl<B: FusedOps> Iterator for Generation<'_, B> {
    type Item = Result<u32, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.finished {
            return None;
        }
        if self.left == 0 || self.read + self.unread.len() > self.model.config().longest() {
            self.finished = true;
            self.ending = Some(if self.left == 0 { Ending::Count } else { Ending::Positions });
            return None;
        }
        let logits = self.logits();
        let chosen = self.choose(&logits);
        self.left -= 1;
        match chosen {
            Ok(id) if self.spec.stop.contains(&id) => {
                self.finished = true;
                self.ending = Some(Ending::Token(id));
            }
            Ok(id) => self.unread.push(id),
            Err(_) => self.finished = true,
        }
        Some(chosen)
    }
}

fn greedy(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (id, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = id;
        }
    }
    best as u32
}

/// `chance` in [0, 1) picks along the kept tokens in order of falling probability.
fn nucleus(logits: &[f32], temperature: f64, top_p: f64, chance: f64) -> u32 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut weights: Vec<(f64, u32)> = logits
        .iter()
        .enumerate()
        .map(|(id, logit)| ((f64::from(logit - max) / temperature).exp(), id as u32))
        .collect();
    let total: f64 = weights.iter().map(|w| w.0).sum();
    weights.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let mut sum = 0.0;
    let kept = weights.iter().position(|w| {
        sum += w.0;
        sum >= top_p * total
    });
    weights.truncate(kept.map_or(weights.len(), |last| last + 1));
    let mut left = chance * weights.iter().map(|w| w.0).sum::<f64>();
    for (weight, id) in &weights {
        if left < *weight {
            return *id;
        }
        left -= weight;
    }
    weights.last().map_or(0, |w| w.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nucleus_is_the_fewest_tokens_that_reach_top_p() {
        // Probabilities 0.5, 0.3, 0.2, of ids 2, 0, 1.
        let logits = [0.3f32.ln(), 0.2f32.ln(), 0.5f32.ln()];
        let chosen = |top_p, chance| nucleus(&logits, 1.0, top_p, chance);
        assert_eq!([chosen(0.4, 0.0), chosen(0.4, 0.999)], [2, 2]);
        assert_eq!([chosen(0.7, 0.62), chosen(0.7, 0.63), chosen(0.7, 0.999)], [2, 0, 0]);
        assert_eq!([chosen(1.0, 0.49), chosen(1.0, 0.79), chosen(1.0, 0.81)], [2, 0, 1]);
        // A low temperature leaves the most probable one.
        assert_eq!(nucleus(&logits, 0.01, 1.0, 0.999), 2);
    }

    #[test]
    fn greedy_takes_the_first_of_equals() {
        assert_eq!(greedy(&[1.0, 3.0, 3.0, 2.0]), 1);
        assert_eq!(greedy(&[f32::NEG_INFINITY]), 0);
    }
}
