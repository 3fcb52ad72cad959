//! A generated multi-domain corpus: endless, deterministic, with domains whose token distributions differ as the real
//! ones do. It stands in for real data where none is at hand; nothing in it is copied from anywhere.
//!
//! A lexicon of made-up words (thousands, drawn by a steep law) and a made-up world of people and places are derived
//! from the seed; document `i` of a domain is a pure function of (seed, domain, i).

mod code;
mod lexicon;
mod math;
mod prose;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::Document;
use lexicon::Lexicon;

/// What a generated document is like, by the role it plays in the paper.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Domain {
    /// General prose of many registers (C4).
    General,
    /// Source files in three syntaxes (Starcoder).
    Code,
    /// Worked arithmetic (the math mix).
    Math,
    /// Tasks with instructions (FLAN).
    Instructions,
    /// Facts as questions and answers (KnowledgeQA).
    Knowledge,
    /// Edited, sectioned prose (DCLM).
    Edited,
    /// Functions with docstrings (Pycode); prompt: the docstring.
    Pycode,
    /// Word problems with steps (GSM8K); prompt: the problem.
    Gsm8k,
    /// Instructions with prose answers (LIMA); prompt: the instruction.
    Lima,
    /// Short questions and answers on nature (SciQ); prompt: the question.
    Sciq,
    /// Programming problems with solutions (APPS); prompt: the problem.
    Problems,
}

/// Generates documents.
#[derive(Debug, Clone)]
pub struct Generator {
    seed: u64,
    lexicon: Lexicon,
}

impl Generator {
    /// The corpus of a seed.
    pub fn new(seed: u64) -> Self {
        Self { seed, lexicon: Lexicon::new(seed) }
    }

    /// Document `index` of a domain.
    pub fn document(&self, domain: Domain, index: u64) -> Document {
        let name = format!("{domain:?}/{index}");
        let mut writer = Writer {
            rng: ChaCha8Rng::seed_from_u64(xxh3_64_with_seed(name.as_bytes(), self.seed)),
            lexicon: &self.lexicon,
            topic: 0,
        };
        writer.topic = writer.below(lexicon::TOPICS);
        match domain {
            Domain::General => prose::general(&mut writer),
            Domain::Code => code::source_file(&mut writer),
            Domain::Math => math::worked(&mut writer),
            Domain::Instructions => prose::task(&mut writer),
            Domain::Knowledge => prose::fact(&mut writer),
            Domain::Edited => prose::edited(&mut writer),
            Domain::Pycode => code::documented_function(&mut writer),
            Domain::Gsm8k => math::word_problem(&mut writer),
            Domain::Lima => prose::answer(&mut writer),
            Domain::Sciq => prose::science_question(&mut writer),
            Domain::Problems => code::problem(&mut writer),
        }
    }

    /// Endless documents of a domain, in order.
    pub fn documents(&self, domain: Domain) -> impl Iterator<Item = Document> + '_ {
        (0..).map(move |i| self.document(domain, i))
    }
}

/// A document's own random stream over the shared lexicon.
struct Writer<'a> {
    rng: ChaCha8Rng,
    lexicon: &'a Lexicon,
    topic: usize,
}

impl Writer<'_> {
    fn below(&mut self, n: usize) -> usize {
        self.rng.random_range(0..n as u64) as usize
    }

    fn between(&mut self, low: i64, high: i64) -> i64 {
        self.rng.random_range(low..=high)
    }

    /// Small indices far more often than large ones, by multiplications alone (the same on every machine).
    fn steep(&mut self, n: usize) -> usize {
        let u = self.below(1 << 20) as u64;
        let cubed = (((u * u) >> 20) * u) >> 20;
        (cubed as usize * n) >> 20
    }

    fn pick<'t>(&mut self, options: &[&'t str]) -> &'t str {
        options[self.below(options.len())]
    }

    fn noun(&mut self) -> String {
        let i = self.steep(self.lexicon.nouns.len());
        self.lexicon.topical(&self.lexicon.nouns, self.topic, i)
    }

    fn verb(&mut self) -> String {
        let i = self.steep(self.lexicon.verbs.len());
        self.lexicon.topical(&self.lexicon.verbs, self.topic, i)
    }

    fn adjective(&mut self) -> String {
        let i = self.steep(self.lexicon.adjectives.len());
        self.lexicon.topical(&self.lexicon.adjectives, self.topic, i)
    }

    fn person(&mut self) -> usize {
        self.steep(self.lexicon.people.len())
    }

    fn place(&mut self) -> String {
        let i = self.steep(self.lexicon.places.len());
        self.lexicon.places[i].clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    const ALL: [Domain; 10] = [
        Domain::General,
        Domain::Code,
        Domain::Math,
        Domain::Instructions,
        Domain::Knowledge,
        Domain::Edited,
        Domain::Pycode,
        Domain::Gsm8k,
        Domain::Lima,
        Domain::Sciq,
    ];

    #[test]
    fn documents_are_functions_of_seed_domain_and_index() {
        let (a, b) = (Generator::new(1), Generator::new(2));
        for domain in ALL {
            assert_eq!(a.document(domain, 5), Generator::new(1).document(domain, 5));
            assert_ne!(a.document(domain, 5), b.document(domain, 5), "{domain:?}");
            assert!(!a.document(domain, 5).text.trim().is_empty(), "{domain:?}");
        }
    }

    #[test]
    fn documents_rarely_repeat_and_words_are_many() {
        let g = Generator::new(3);
        for domain in ALL {
            let texts: HashSet<_> = g.documents(domain).take(2000).map(|d| d.hash()).collect();
            assert!(texts.len() > 1950, "{domain:?}: {} of 2000 differ", texts.len());
        }
        let words: HashSet<String> = g
            .documents(Domain::General)
            .take(500)
            .flat_map(|d| d.text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
            .collect();
        assert!(words.len() > 5000, "{} words", words.len());
    }

    #[test]
    fn arithmetic_is_right() {
        let g = Generator::new(4);
        for d in g.documents(Domain::Gsm8k).take(300) {
            let mut last = None;
            for part in d.text.split("<<").skip(1) {
                let inner = part.split(">>").next().unwrap();
                let (formula, value) = inner.split_once('=').unwrap();
                let at = formula.find(['+', '-', '*', '/']).unwrap();
                let (a, b): (i64, i64) = (formula[..at].parse().unwrap(), formula[at + 1..].parse().unwrap());
                let truth = match &formula[at..=at] {
                    "+" => a + b,
                    "-" => a - b,
                    "*" => a * b,
                    _ => a / b,
                };
                assert_eq!(truth, value.parse::<i64>().unwrap(), "{inner}");
                last = Some(truth);
            }
            assert!(d.text.ends_with(&format!("#### {}", last.unwrap())), "{}", d.text);
        }
    }
}
