//! Which sources are mixed when, and how much of each.

use serde::{Deserialize, Serialize};

use crate::{Error, Shares, Span, Step, Tokens, Weight, WeightCurve};

/// From `start` on, until the next phase or the end, a share of the slots is specialised.
///
/// In files it has a `weight`, or `sequences`, a number of them, instead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written<At>", into = "Written<At>", bound(serialize = "At: Clone + Serialize"))]
pub struct Phase<At = Step> {
    /// First step.
    pub start: At,
    /// The specialised side's share of the slots; the rest is general.
    pub weight: WeightCurve,
    /// What the specialised side consists of. None where the weight is zero.
    pub specialised: Option<Shares>,
    /// What the general side consists of from here on; as before where absent.
    pub general: Option<Shares>,
}

/// As it stands in a file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written<At> {
    start: At,
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    weight: Option<WeightCurve>,
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    sequences: Option<u64>,
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    specialised: Option<Shares>,
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    general: Option<Shares>,
}

impl<At> TryFrom<Written<At>> for Phase<At> {
    type Error = String;

    fn try_from(written: Written<At>) -> Result<Self, String> {
        let Written { start, weight, sequences, specialised, general } = written;
        let weight = match (weight, sequences) {
            (Some(weight), None) => weight,
            (None, Some(sequences)) => WeightCurve::Sequences(sequences),
            _ => return Err("a phase must have a weight or a number of sequences, one of both".to_owned()),
        };
        Ok(Self { start, weight, specialised, general })
    }
}

impl<At> From<Phase<At>> for Written<At> {
    fn from(phase: Phase<At>) -> Self {
        let Phase { start, weight, specialised, general } = phase;
        let (weight, sequences) = match weight {
            WeightCurve::Sequences(sequences) => (None, Some(sequences)),
            weight => (Some(weight), None),
        };
        Self { start, weight, sequences, specialised, general }
    }
}

fn none<T>() -> Option<T> {
    None
}

impl<At> Phase<At> {
    /// One specialised source at a constant weight.
    ///
    /// # Errors
    /// An empty name.
    pub fn constant(start: At, source: &str, weight: Weight) -> Result<Self, Error> {
        let specialised = Some(Shares::one(source)?);
        Ok(Self { start, weight: weight.into(), specialised, general: None })
    }

    /// One specialised source, its weight rising or falling in a straight line until the next phase.
    ///
    /// # Errors
    /// An empty name.
    pub fn ramp(start: At, source: &str, from: Weight, to: Weight) -> Result<Self, Error> {
        let specialised = Some(Shares::one(source)?);
        Ok(Self { start, weight: WeightCurve::Ramp { from, to }, specialised, general: None })
    }
}

/// A timeline as written in a file: points in steps or tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimelineSpec {
    /// The length of the run.
    pub end: Span,
    /// What the general side consists of from the start on.
    pub general: Shares,
    /// Phases in order of their start.
    #[serde(default)]
    pub phases: Vec<Phase<Span>>,
}

impl TimelineSpec {
    /// The timeline of a run whose steps have so many tokens.
    ///
    /// # Errors
    /// As [`Timeline::new`].
    pub fn build(self, tokens_per_step: Tokens) -> Result<Timeline, Error> {
        let phases = self.phases.into_iter().map(|phase| {
            let Phase { start, weight, specialised, general } = phase;
            Ok(Phase { start: start.in_steps(tokens_per_step)?, weight, specialised, general })
        });
        Timeline::new(self.end.in_steps(tokens_per_step)?, self.general, phases.collect::<Result<_, Error>>()?)
    }
}

/// A checked sequence of phases over a run. Before the first phase everything is general.
///
/// ```
/// use schedule::{Phase, Shares, Step, Timeline, Weight};
///
/// // Code ramps up to 20 % over 2 000 steps, stays there, and gives way to mathematics near the end.
/// let (none, fifth) = (Weight::ZERO, Weight::parse("0.2")?);
/// let timeline = Timeline::new(Step(61_000), Shares::one("C4")?, vec![
///     Phase::ramp(Step(6_000), "Starcoder", none, fifth)?,
///     Phase::constant(Step(8_000), "Starcoder", fifth)?,
///     Phase::constant(Step(50_000), "Math", fifth)?,
/// ])?;
/// assert_eq!(timeline.phase_at(Step(7_000)).map(|p| p.weight.to_string()), Some("0 to 0.2".to_owned()));
/// # Ok::<(), schedule::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct Timeline {
    end: Step,
    general: Shares,
    phases: Vec<Phase>,
}

/// A timeline that was read and is not checked yet.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    end: Step,
    general: Shares,
    #[serde(default)]
    phases: Vec<Phase>,
}

impl TryFrom<Unchecked> for Timeline {
    type Error = Error;
    fn try_from(read: Unchecked) -> Result<Self, Error> {
        Self::new(read.end, read.general, read.phases)
    }
}

impl Timeline {
    /// Phases in order of their start.
    ///
    /// # Errors
    /// No steps; phases out of order; a start at or beyond the end; a weight without a source.
    pub fn new(end: Step, general: Shares, phases: Vec<Phase>) -> Result<Self, Error> {
        if end.0 == 0 {
            return Err(Error::field("steps", 0, "must be at least 1"));
        }
        for (i, phase) in phases.iter().enumerate() {
            let what = match &phase.specialised {
                Some(shares) => shares.to_string(),
                None => format!("phase {i}"),
            };
            if phase.start >= end {
                let limit = format!("must be before the end, step {end}");
                return Err(Error::field(format!("start of {what}"), phase.start, limit));
            }
            if i > 0 && phases[i - 1].start >= phase.start {
                let limit = format!("must come after {}, the start of the phase before", phases[i - 1].start);
                return Err(Error::field(format!("start of {what}"), phase.start, limit));
            }
            if phase.specialised.is_none() && !phase.weight.is_zero() {
                let limit = "must be 0 where no specialised source is named";
                return Err(Error::field(format!("{} of {what}", phase.weight.kind()), phase.weight, limit));
            }
            if phase.weight == WeightCurve::Sequences(0) {
                return Err(Error::field(format!("sequences of {what}"), 0, "must be at least 1"));
            }
        }
        Ok(Self { end, general, phases })
    }

    /// One general source and nothing else.
    ///
    /// # Errors
    /// No steps, no name.
    pub fn general_only(end: Step, general: &str) -> Result<Self, Error> {
        Self::new(end, Shares::one(general)?, Vec::new())
    }

    /// General text, and from `start` on `weight` of `source`: the paper's midtraining. Weight 1 is continued
    /// pretraining.
    ///
    /// # Errors
    /// No steps, or a start at or beyond the end.
    pub fn midtrain(end: Step, start: Step, general: &str, source: &str, weight: Weight) -> Result<Self, Error> {
        Self::new(end, Shares::one(general)?, vec![Phase::constant(start, source, weight)?])
    }

    /// Steps in all.
    pub fn end(&self) -> Step {
        self.end
    }

    /// What the general side consists of at the start.
    pub fn general(&self) -> &Shares {
        &self.general
    }

    /// The phases, in order.
    pub fn phases(&self) -> &[Phase] {
        &self.phases
    }

    /// The step after phase `i`'s last.
    pub fn phase_end(&self, i: usize) -> Step {
        self.phases.get(i + 1).map_or(self.end, |next| next.start)
    }

    /// The phase of a step, if any has begun.
    pub fn phase_at(&self, step: Step) -> Option<&Phase> {
        self.phases[..self.phases.partition_point(|p| p.start <= step)].last()
    }

    /// Names of the general sources of any phase, each once, in the order in which they come in.
    pub fn general_sources(&self) -> Vec<&str> {
        unique(std::iter::once(&self.general).chain(self.phases.iter().filter_map(|p| p.general.as_ref())))
    }

    /// Names of the specialised sources of any phase, each once, in the order in which they come in.
    pub fn specialised_sources(&self) -> Vec<&str> {
        unique(self.phases.iter().filter_map(|p| p.specialised.as_ref()))
    }
}

impl Timeline {
    /// Names of all sources, each once: the general ones first.
    pub fn sources(&self) -> Vec<&str> {
        let mut all = self.general_sources();
        for name in self.specialised_sources() {
            if !all.contains(&name) {
                all.push(name);
            }
        }
        all
    }
}

impl Timeline {
    /// What share of all slots from the start of the first phase to the end each source has, whatever the phases between
    /// (of a timeline without phases, from its beginning): what a mixture exposes a model to. `slots`: those of a step. Sources
    /// in the order of [`sources`](Self::sources); what has no share is left out.
    ///
    /// ```
    /// use schedule::{Phase, Shares, Step, Timeline, Weight};
    ///
    /// let (tenth, half) = (Weight::parse("0.1")?, Weight::parse("0.5")?);
    /// let phases = vec![Phase::constant(Step(20), "code", tenth)?, Phase::constant(Step(80), "math", half)?];
    /// let stages = Timeline::new(Step(100), Shares::one("web")?, phases)?;
    /// // 80 steps: 60 with a tenth of code, 20 with a half of math.
    /// let shares: Vec<(&str, f64)> = stages.exposure(64);
    /// let expected = [("web", 0.8), ("code", 0.075), ("math", 0.125)];
    /// assert!(shares.iter().zip(expected).all(|(a, b)| a.0 == b.0 && (a.1 - b.1).abs() < 1e-12));
    /// # Ok::<(), schedule::Error>(())
    /// ```
    pub fn exposure(&self, slots: u64) -> Vec<(&str, f64)> {
        let mut shares: Vec<(&str, f64)> = self.sources().into_iter().map(|name| (name, 0.0)).collect();
        let mut add = |side: &Shares, slots: f64| {
            for (name, share) in side.iter() {
                shares
                    .iter_mut()
                    .filter(|(known, _)| *known == name)
                    .for_each(|(_, sum)| *sum += slots * share.as_f64());
            }
        };
        let mut general = &self.general;
        let mut total = 0.0;
        for (i, phase) in self.phases.iter().enumerate() {
            general = phase.general.as_ref().unwrap_or(general);
            let len = (self.phase_end(i).0 - phase.start.0).saturating_mul(slots);
            let (numerator, scale) = phase.weight.integral(len, len);
            let specialised = numerator as f64 / (scale as f64 * Weight::PARTS as f64);
            phase.specialised.iter().for_each(|side| add(side, specialised));
            add(general, len as f64 - specialised);
            total += len as f64;
        }
        if self.phases.is_empty() {
            add(general, 1.0);
            total = 1.0;
        }
        shares.retain(|(_, sum)| *sum > 0.0);
        shares.iter_mut().for_each(|(_, sum)| *sum /= total);
        shares
    }
}

fn unique<'a>(sides: impl Iterator<Item = &'a Shares>) -> Vec<&'a str> {
    let mut out = Vec::new();
    for (name, _) in sides.flat_map(Shares::iter) {
        if !out.contains(&name) {
            out.push(name);
        }
    }
    out
}
