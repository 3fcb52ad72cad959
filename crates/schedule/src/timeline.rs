//! Which source is mixed in when, and how much of it.

use serde::{Deserialize, Serialize};

use crate::{Error, Step, Weight};

/// From `start` on, until the next phase or the end, `weight` of the slots come from `source`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    /// First step.
    pub start: Step,
    /// The specialised source's name.
    pub source: String,
    /// Its share; the rest is general.
    pub weight: Weight,
}

/// A checked sequence of phases over a run. Before the first phase everything is general.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeline {
    end: Step,
    phases: Vec<Phase>,
}

impl Timeline {
    /// Phases in order of their start.
    ///
    /// # Errors
    /// No steps, phases out of order, a start at or beyond the end.
    pub fn new(end: Step, phases: Vec<Phase>) -> Result<Self, Error> {
        if end.0 == 0 {
            return Err(Error::field("steps", 0, "must be at least 1"));
        }
        for (i, phase) in phases.iter().enumerate() {
            if phase.start >= end {
                let limit = format!("must be before the end, step {end}");
                return Err(Error::field(format!("start of {}", phase.source), phase.start, limit));
            }
            if i > 0 && phases[i - 1].start >= phase.start {
                let limit = format!("must come after {}, the start of the phase before", phases[i - 1].start);
                return Err(Error::field(format!("start of {}", phase.source), phase.start, limit));
            }
        }
        Ok(Self { end, phases })
    }

    /// General text only.
    ///
    /// # Errors
    /// No steps.
    pub fn general(end: Step) -> Result<Self, Error> {
        Self::new(end, Vec::new())
    }

    /// General text, and from `start` on `weight` of `source`: the paper's midtraining. Weight 1 is continued
    /// pretraining.
    ///
    /// # Errors
    /// No steps, or a start at or beyond the end.
    pub fn midtrain(end: Step, start: Step, source: &str, weight: Weight) -> Result<Self, Error> {
        Self::new(end, vec![Phase { start, source: source.to_owned(), weight }])
    }

    /// Steps in all.
    pub fn end(&self) -> Step {
        self.end
    }

    /// The phases, in order.
    pub fn phases(&self) -> &[Phase] {
        &self.phases
    }

    /// The phase of a step, if any has begun.
    pub fn phase_at(&self, step: Step) -> Option<&Phase> {
        self.phases[..self.phases.partition_point(|p| p.start <= step)].last()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_timelines_are_refused() {
        let w = Weight::parse("0.2").unwrap();
        let message = Timeline::midtrain(Step(10), Step(10), "code", w).unwrap_err().to_string();
        assert_eq!(message, "start of code = 10 must be before the end, step 10");
        let phase = |start| Phase { start: Step(start), source: "a".into(), weight: w };
        assert!(Timeline::new(Step(10), vec![phase(5), phase(5)]).is_err());
        assert!(Timeline::general(Step(0)).is_err());
    }

    #[test]
    fn phase_lookup() {
        let phase = |start, source: &str| Phase { start: Step(start), source: source.into(), weight: Weight::ONE };
        let t = Timeline::new(Step(10), vec![phase(3, "a"), phase(6, "b")]).unwrap();
        let at = |k| t.phase_at(Step(k)).map(|p| p.source.as_str());
        assert_eq!([at(2), at(3), at(5), at(6), at(99)], [None, Some("a"), Some("a"), Some("b"), Some("b")]);
    }

    #[test]
    fn weights_are_exact_decimals() {
        for (text, parts) in [("0.2", 200_000_000), ("1", 1_000_000_000), ("0.000000001", 1), (".5", 500_000_000)] {
            assert_eq!(Weight::parse(text).unwrap().parts(), parts);
        }
        for bad in ["1.1", "-0.1", "0.0000000001", "", ".", "NaN", "2e-1", "99999999999999999999"] {
            assert!(Weight::parse(bad).unwrap_err().to_string().contains(bad), "{bad}");
        }
        assert_eq!(Weight::parse("0.20").unwrap().to_string(), "0.2");
    }
}
