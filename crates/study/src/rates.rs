//! Learning rates as they were applied: states of two curves that agree up to a step are the same states.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use schedule::{LrSchedule, LrSpec, Step};
use xxhash_rust::xxh3::Xxh3;

use crate::Error;

/// A curve, and digests of its first rates.
#[derive(Clone)]
pub(crate) struct Rates {
    schedule: LrSchedule,
    /// By step: the hash of all rates before it. Each digest goes on from the nearest.
    hashed: Arc<Mutex<BTreeMap<u64, Xxh3>>>,
}

impl std::fmt::Debug for Rates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Rates").field(self.schedule.spec()).finish()
    }
}

impl Rates {
    /// Of a curve in steps.
    pub(crate) fn new(what: &str, spec: LrSpec) -> Result<Self, Error> {
        let schedule = spec.build().map_err(|source| Error::Schedule { what: what.to_owned(), source })?;
        let hashed = BTreeMap::from([(0, Xxh3::new())]);
        Ok(Self { schedule, hashed: Arc::new(Mutex::new(hashed)) })
    }

    /// The curve.
    pub(crate) fn spec(&self) -> &LrSpec {
        self.schedule.spec()
    }

    /// A digest of the rates of the updates before a step, to the last bit.
    pub(crate) fn digest(&self, before: Step) -> String {
        let mut hashed = self.hashed.lock().unwrap_or_else(PoisonError::into_inner);
        let (from, mut hash) = match hashed.range(..=before.0).next_back() {
            Some((step, hash)) => (*step, hash.clone()),
            None => (0, Xxh3::new()),
        };
        for step in from..before.0 {
            hash.update(&self.schedule.at(Step(step)).to_bits().to_le_bytes());
        }
        let digest = format!("{:032x}", hash.digest128());
        hashed.insert(before.0, hash);
        digest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_that_agree_up_to_a_step_have_one_digest_there() {
        let curve = |min: f64| Rates::new("test", LrSpec::cosine(1e-3, min, 10, 50)).unwrap();
        let (a, b) = (curve(0.0), curve(1e-4));
        // In any order of asking.
        let late = a.digest(Step(40));
        assert_eq!(a.digest(Step(10)), b.digest(Step(10)));
        assert_ne!(late, b.digest(Step(40)));
        assert_eq!(curve(0.0).digest(Step(40)), late);
        assert_ne!(a.digest(Step(9)), a.digest(Step(10)));
    }
}
