//! Proximity and proximity advantage, over documents.
//!
//! Documents are clustered as real ones are: each has a topic of its corpus, whose frequent words are its own, and repeats
//! its own words. Sizes are those of the recorded comparison of real corpora (docs/results): from a thousand to ten thousand
//! documents a corpus, of 19 to 3 800 tokens each.

use metrics_proximity::{Advantage, Corpora, Documents, Draws, Similarity, SimilarityOptions};

use crate::{Random, Rate, covers, repeat};

/// Token ids.
const VOCABULARY: usize = 50_304;
/// The most frequent words are those of every topic.
const COMMON: usize = 150;
const TOPICS: usize = 48;
/// The chance that a word repeats one of its document's.
const REPEATED: f64 = 0.25;

/// What documents are made of: ranks by Zipf's law, and which words they stand for in each topic.
#[derive(Debug)]
pub struct Language {
    /// Alias tables of the ranks' frequencies (Walker 1977).
    alias: Vec<(f64, u32)>,
    words: Vec<Vec<u32>>,
}

/// A kind of corpus.
#[derive(Debug, Clone, Copy)]
pub struct Genre {
    /// Topics, from and to.
    pub topics: (usize, usize),
    /// Mean tokens of a document.
    pub length: f64,
    /// Standard deviation of their logarithm.
    pub spread: f64,
}

impl Language {
    /// Of a seed.
    pub fn new(seed: u64) -> Self {
        let weights: Vec<f64> = (0..VOCABULARY).map(|rank| 1.0 / (rank as f64 + 2.7)).collect();
        let mut random = Random::new(seed, u64::MAX);
        let words = (0..TOPICS).map(|_| {
            let mut words: Vec<u32> = (0..VOCABULARY as u32).collect();
            for i in (COMMON + 1..VOCABULARY).rev() {
                words.swap(i, COMMON + random.below(i + 1 - COMMON));
            }
            words
        });
        Self { words: words.collect(), alias: alias(&weights) }
    }

    fn rank(&self, random: &mut Random) -> usize {
        let place = random.uniform() * self.alias.len() as f64;
        let (kept, other) = self.alias[place as usize];
        if place.fract() < kept { place as usize } else { other as usize }
    }

    fn document(&self, genre: Genre, random: &mut Random) -> Vec<u32> {
        let length = random.log_normal(genre.length, genre.spread).round().max(1.0) as usize;
        let topic = genre.topics.0 + random.below(genre.topics.1 - genre.topics.0);
        let mut out = Vec::with_capacity(length);
        for i in 0..length {
            let word = match i {
                1.. if random.uniform() < REPEATED => out[random.below(i)],
                _ => self.words[topic][self.rank(random)],
            };
            out.push(word);
        }
        out
    }

    /// So many documents.
    pub fn documents(&self, genre: Genre, count: usize, random: &mut Random) -> Documents {
        Documents::new(VOCABULARY, (0..count).map(|_| self.document(genre, random)))
            .expect("words are in the vocabulary")
    }

    /// At least so many tokens.
    fn tokens(&self, genre: Genre, tokens: u64, random: &mut Random) -> Documents {
        let (mut all, mut count) = (Vec::new(), 0);
        while count < tokens {
            all.push(self.document(genre, random));
            count += all.last().map_or(0, Vec::len) as u64;
        }
        Documents::new(VOCABULARY, all).expect("words are in the vocabulary")
    }
}

fn alias(weights: &[f64]) -> Vec<(f64, u32)> {
    let mean = weights.iter().sum::<f64>() / weights.len() as f64;
    let mut left: Vec<f64> = weights.iter().map(|w| w / mean).collect();
    let mut out: Vec<(f64, u32)> = (0..).take(weights.len()).map(|i| (1.0, i)).collect();
    let (mut small, mut large): (Vec<usize>, Vec<usize>) = (0..weights.len()).partition(|i| left[*i] < 1.0);
    while let (Some(low), Some(high)) = (small.pop(), large.pop()) {
        out[low] = (left[low], high as u32);
        left[high] -= 1.0 - left[low];
        if left[high] < 1.0 { small.push(high) } else { large.push(high) }
    }
    out
}

const GENERAL: Genre = Genre { topics: (0, 40), length: 385.0, spread: 1.0 };
const CODE: Genre = Genre { topics: (36, 48), length: 1400.0, spread: 1.2 };
const LONG: Genre = Genre { topics: (0, 24), length: 3800.0, spread: 1.0 };
const FUNCTIONS: Genre = Genre { topics: (42, 48), length: 369.0, spread: 1.0 };
const QUESTIONS: Genre = Genre { topics: (4, 12), length: 18.8, spread: 0.5 };

/// Documents of each corpus as recorded: general text, code, long texts, functions, questions.
const SIZES: [(Genre, usize); 5] =
    [(GENERAL, 10_000), (CODE, 3_605), (LONG, 1_118), (FUNCTIONS, 6_125), (QUESTIONS, 10_000)];
/// What both halves of 10 000 questions hold with room to spare.
const BUDGET: u64 = 80_000;

/// Which mixtures are simulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mixtures {
    /// All of them.
    All,
    /// The first, which is the quickest.
    First,
}

/// The comparison of the recorded study with corpora of a language.
fn landscape(mixtures: Mixtures, corpora: Vec<Documents>) -> Corpora {
    let mixed = match mixtures {
        Mixtures::All => 3,
        Mixtures::First => 1,
    };
    let names = ["general", "code", "long texts", "functions", "questions"].map(str::to_owned);
    Corpora {
        corpora: names.into_iter().zip(corpora).collect(),
        general: 0,
        mixtures: [
            ("code (20%)".to_owned(), vec![(0, 0.8), (1, 0.2)]),
            ("long texts (20%)".to_owned(), vec![(0, 0.8), (2, 0.2)]),
            ("long texts (5%)".to_owned(), vec![(0, 0.95), (2, 0.05)]),
        ][..mixed]
            .to_vec(),
        targets: vec![("functions".into(), 3), ("questions".into(), 4)],
    }
}

fn found(mixtures: Mixtures, corpora: Vec<Documents>, draws: &Draws) -> Vec<Vec<Advantage>> {
    let found = landscape(mixtures, corpora).advantages(&SimilarityOptions::default(), draws);
    found.expect("corpora of more than the budget").1
}

/// Coverage of the 95 % interval of PA. The truth is the mean over independent corpora, each of which is read once.
pub fn coverage(mixtures: Mixtures, repetitions: usize, seed: u64) -> Vec<Rate> {
    let language = Language::new(seed);
    let once = Draws { budget: Some(BUDGET), draws: 2, groups: 0, ..Draws::default() };
    let truths = repeat(TRUTHS, seed ^ 1, |random| {
        let fresh = SIZES.map(|(genre, _)| language.tokens(genre, 10 * BUDGET, random));
        found(mixtures, fresh.to_vec(), &Draws { seed: random.seed(), ..once })
    });
    let results = repeat(repetitions, seed, |random| {
        let corpora = SIZES.map(|(genre, count)| language.documents(genre, count, random)).to_vec();
        found(mixtures, corpora, &Draws { budget: Some(BUDGET), seed: random.seed(), ..Draws::default() })
    });
    let names = landscape(mixtures, SIZES.map(|_| Documents::new(1, [[0]]).expect("one document")).to_vec());
    let mut rates = Vec::new();
    for (m, (mixture, _)) in names.mixtures.iter().enumerate() {
        for (t, (target, _)) in names.targets.iter().enumerate() {
            let value = |advantages: &Vec<Vec<Advantage>>| advantages[m][t].advantage.clone();
            let truth = truths.iter().map(|c| value(c).value()).sum::<f64>() / truths.len() as f64;
            let error = results.iter().map(|c| value(c).value() - truth).sum::<f64>() / repetitions as f64;
            let setting =
                format!("{mixture} towards {target} at {BUDGET} tokens a side: PA {truth:.5}, mean error {error:+.5}");
            let covered = results.iter().map(|c| covers(value(c).interval(0.95), truth));
            let errors =
                results.iter().map(|c| (value(c).value() - truth, value(c).standard_error().unwrap_or(f64::NAN)));
            let rate = Rate::of("proximity advantage", setting, "95 % interval covers", 0.95, covered);
            rates.push(rate.with_errors(errors));
        }
    }
    rates
}

/// A similarity and the ends of its interval.
type Measured = (Similarity, (Similarity, Similarity));

/// Independent corpora that a truth is the mean over.
const TRUTHS: usize = 600;

/// A measure of samples of one distribution, N documents against so many times as many.
#[derive(Debug, Clone)]
pub struct Sized {
    /// The measure.
    pub measure: &'static str,
    /// How many times as many.
    pub factor: usize,
    /// Its mean over repetitions, and that mean's standard error.
    pub mean: (f64, f64),
    /// The same of equal sizes.
    pub equal: (f64, f64),
    /// How often its interval holds the mean of equal sizes.
    pub covered: Rate,
}

/// Samples of one genre, `n` documents against `n`, 20 n and 200 n, compared at one budget.
pub fn sized(repetitions: usize, seed: u64) -> Vec<Sized> {
    const BASE: usize = 150;
    let language = Language::new(seed);
    let genre = Genre { length: 60.0, ..GENERAL };
    let budget = 1_500;
    let by_factor: Vec<(usize, Vec<Measured>)> = [1, 20, 200]
        .map(|factor| {
            let results: Vec<Measured> = repeat(repetitions, seed ^ factor as u64, |random| {
                let corpora = Corpora {
                    corpora: [("small", 1), ("large", factor)]
                        .map(|(name, f)| (name.to_owned(), language.documents(genre, f * BASE, random)))
                        .to_vec(),
                    general: 0,
                    mixtures: Vec::new(),
                    targets: vec![("small".into(), 0), ("large".into(), 1)],
                };
                let draws = Draws { budget: Some(budget), seed: random.seed(), ..Draws::default() };
                let found = corpora.similarities(&SimilarityOptions::default(), &draws).expect("more than the budget");
                let intervals = found.1.intervals.expect("enough documents");
                (found.1.cells[0][1], intervals[0][1])
            });
            (factor, results)
        })
        .to_vec();
    let mean = |results: &[Measured], i: usize| {
        let (n, values) = (results.len() as f64, || results.iter().map(|(s, _)| s.values()[i]));
        let mean = values().sum::<f64>() / n;
        (mean, (values().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0) / n).sqrt())
    };
    let mut out = Vec::new();
    for (i, measure) in MEASURES.into_iter().enumerate() {
        let equal = mean(&by_factor[0].1, i);
        for (factor, results) in &by_factor {
            let found = mean(results, i);
            let setting = format!(
                "{BASE} documents against {}, {budget} tokens a side: mean {measure} {:.5} (standard error {:.5}), of equal sizes {:.5} \
                 ({:.5})",
                factor * BASE,
                found.0,
                found.1,
                equal.0,
                equal.1
            );
            let covered =
                results.iter().map(|(_, (low, high))| covers(Some((low.values()[i], high.values()[i])), equal.0));
            let covered = Rate::of("size", setting, format!("95 % interval of {measure} covers"), 0.95, covered);
            out.push(Sized { measure, factor: *factor, mean: found, equal, covered });
        }
    }
    out
}

/// The rates of [`sized`].
pub fn size(repetitions: usize, seed: u64) -> Vec<Rate> {
    sized(repetitions, seed).into_iter().map(|sized| sized.covered).collect()
}

/// In the order of [`Similarity::values`].
const MEASURES: [&str; 8] = [
    "Jaccard",
    "overlap",
    "overlap of the small corpus",
    "overlap of the large corpus",
    "shared mass",
    "cosine",
    "JSD (bits)",
    "combined score",
];
