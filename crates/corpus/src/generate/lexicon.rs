//! Made-up words, people and places.

use std::collections::HashSet;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use xxhash_rust::xxh3::xxh3_64;

/// Subjects that documents are about; each favours its own words.
pub(super) const TOPICS: usize = 64;

#[derive(Debug, Clone)]
pub(super) struct Lexicon {
    pub(super) nouns: Vec<String>,
    pub(super) verbs: Vec<String>,
    pub(super) adjectives: Vec<String>,
    pub(super) people: Vec<Person>,
    pub(super) places: Vec<String>,
}

/// Someone of the made-up world: what is said of them is the same in every domain.
#[derive(Debug, Clone)]
pub(super) struct Person {
    pub(super) name: String,
    pub(super) born: String,
    pub(super) year: i64,
    pub(super) trade: String,
    pub(super) work: String,
}

const ONSETS: [&str; 26] = [
    "b", "br", "c", "ch", "cl", "d", "dr", "f", "fl", "g", "gr", "h", "j", "k", "l", "m", "n", "p", "pl", "r", "s",
    "st", "t", "tr", "v", "w",
];
const VOWELS: [&str; 9] = ["a", "e", "i", "o", "u", "ea", "ou", "ai", "ee"];
const CODAS: [&str; 16] = ["", "", "", "n", "r", "l", "s", "t", "m", "nd", "rk", "ck", "st", "ng", "p", "sh"];
const TRADES: [&str; 12] = [
    "painter",
    "composer",
    "astronomer",
    "botanist",
    "engineer",
    "poet",
    "mason",
    "sailor",
    "physician",
    "weaver",
    "printer",
    "historian",
];

impl Lexicon {
    pub(super) fn new(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x6C65_7869_636F_6E00);
        let mut seen = HashSet::new();
        let mut words = |count: usize, endings: &[&str]| {
            let mut out = Vec::with_capacity(count);
            while out.len() < count {
                let mut word = String::new();
                for _ in 0..rng.random_range(1..=2u8) {
                    word += ONSETS[rng.random_range(0..ONSETS.len() as u64) as usize];
                    word += VOWELS[rng.random_range(0..VOWELS.len() as u64) as usize];
                    word += CODAS[rng.random_range(0..CODAS.len() as u64) as usize];
                }
                word += endings[rng.random_range(0..endings.len() as u64) as usize];
                if word.len() > 2 && seen.insert(word.clone()) {
                    out.push(word);
                }
            }
            out
        };
        let nouns = words(9000, &["", "", "", "er", "ment", "ity", "age"]);
        let verbs = words(3000, &["", "", "ate", "ise", "en"]);
        let adjectives = words(3000, &["", "y", "al", "ous", "ful", "ive"]);
        let capital = |w: String| w[..1].to_uppercase() + &w[1..];
        let places: Vec<String> =
            words(1200, &["", "ton", "ford", "ville", "mouth", "ia"]).into_iter().map(capital).collect();
        let first: Vec<String> = words(800, &["", "a", "o", "e"]).into_iter().map(capital).collect();
        let last: Vec<String> = words(1500, &["", "son", "man", "ley", "ez"]).into_iter().map(capital).collect();
        let people = (0..4000)
            .map(|_| {
                let mut at = |n: usize| rng.random_range(0..n as u64) as usize;
                Person {
                    name: format!("{} {}", first[at(first.len())], last[at(last.len())]),
                    born: places[at(places.len())].clone(),
                    year: 1500 + at(500) as i64,
                    trade: TRADES[at(TRADES.len())].to_owned(),
                    work: format!("The {} {}", capital(adjectives[at(600)].clone()), capital(nouns[at(2000)].clone())),
                }
            })
            .collect();
        Self { nouns, verbs, adjectives, people, places }
    }

    /// The word of rank `i` in a topic: common words are shared by all topics, rarer ones are each topic's own.
    pub(super) fn topical(&self, words: &[String], topic: usize, i: usize) -> String {
        if i < words.len() / 40 {
            return words[i].clone();
        }
        let mut key = [0u8; 16];
        key[..8].copy_from_slice(&(topic as u64).to_le_bytes());
        key[8..].copy_from_slice(&((i / 4) as u64).to_le_bytes());
        words[(xxh3_64(&key) % words.len() as u64) as usize].clone()
    }
}
