//! The mixture: from a slot to its draw, exactly and without state.

mod budget;
mod permutation;
mod preflight;
mod shared;
mod track;
mod tree;

use schedule::{Step, Timeline, Tokens, Weight, WeightCurve};
use serde::{Deserialize, Serialize};

pub use budget::Budget;
pub use permutation::Permutation;
pub use preflight::{PhaseUse, Preflight, SourceUse};
use track::Track;

use crate::{Error, stream_key};

/// A source's name and how much of it there is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct SourceSize {
    /// Its name, as timelines use it.
    pub name: String,
    /// Whole sequences in it.
    pub sequences: u64,
    /// How often each may be drawn, where it differs from the spec's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_epochs: Option<f64>,
}

impl SourceSize {
    /// A source of whole sequences.
    pub fn new(name: &str, sequences: u64) -> Self {
        Self { name: name.to_owned(), sequences, max_epochs: None }
    }

    /// The same with a limit of its own on how often each sequence may be drawn; that of the spec where there is none.
    #[must_use]
    pub fn with_max_epochs(self, max_epochs: Option<f64>) -> Self {
        Self { max_epochs, ..self }
    }

    /// How many sequences may be drawn where each may be so often: epochs count in billionths, as weights do, so that 0.29
    /// of 100 is 29.
    pub fn allowed(&self, max_epochs: f64) -> u64 {
        let billionths = (max_epochs * Weight::PARTS as f64).round() as u128;
        let allowed = u128::from(self.sequences).saturating_mul(billionths) / u128::from(Weight::PARTS);
        allowed.try_into().unwrap_or(u64::MAX)
    }

    /// A source of so many tokens, read in sequences of `time`: each takes `time` tokens, the last one more.
    pub fn of_tokens(name: &str, tokens: Tokens, time: u64) -> Self {
        Self::new(name, tokens.0.saturating_sub(1) / time.max(1))
    }
}

/// What a specialised slot does to the general sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pairing {
    /// A general source's index follows from the slot alone: arms of one seed draw the same general sequences wherever
    /// nothing displaced them; displaced ones are reserved but not drawn. With several general sources the weight is
    /// kept within each one's slots, so that none is displaced more than its share.
    #[default]
    Displace,
    /// The general sources are consumed without gaps.
    Shift,
}

/// All that determines every draw: plain data, which [`MixPlan::build`] checks.
///
/// ```
/// use data_mixer::schedule::{Step, Timeline, Weight};
/// use data_mixer::{MixPlan, MixSpec, Pairing, SourceSize};
///
/// let timeline = Timeline::midtrain(Step(100), Step(50), "web", "code", Weight::ONE)?;
/// let spec = MixSpec::new(timeline, vec![SourceSize::new("web", 900), SourceSize::new("code", 400)], 8, 128);
/// let plan = MixPlan::build(MixSpec { seed: 7, pairing: Pairing::Shift, ..spec })?;
/// assert_eq!(plan.budgets()[1].drawn, 50 * 8);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MixSpec {
    /// Seed of orders and phases.
    pub seed: u64,
    /// Slots of a step: the global batch, whatever devices or micro-batches it is computed in.
    pub batch: u64,
    /// T, tokens that a sequence takes of a source's budget.
    pub time: u64,
    /// When what is mixed in.
    pub timeline: Timeline,
    /// The sources that the timeline names, and any others.
    pub sources: Vec<SourceSize>,
    /// Paired or gapless general draws.
    pub pairing: Pairing,
    /// How often a sequence may be drawn.
    pub max_epochs: f64,
}

/// One slot's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draw {
    /// An index into [`MixSpec::sources`].
    pub source: usize,
    /// How many times the source was gone through before.
    pub epoch: u64,
    /// The sequence in the source.
    pub sequence: u64,
}

/// A checked mixture.
///
/// Over the first n slots of a phase, with F the integral of the weight over them:
///
/// - with one general source (or under [`Pairing::Shift`]) the specialised count differs from F(n) by less than 1, and
///   that of a source with share r of the specialised side from r·F(n) by less than 1 + ⌈log₂ K⌉, K its side's sources;
/// - under [`Pairing::Displace`] with G > 1 general sources the specialised count differs by less than G for a constant
///   weight and by less than G·(1 + 3⌈log₂ G⌉) for a ramp;
/// - a phase of a [number of sequences](WeightCurve::Sequences) has exactly that number at its end.
///
/// A source may stand on both sides: it is drawn without repeats across both, from its beginning on the side that names it
/// first and from its end on the other.
#[derive(Debug, Clone)]
pub struct MixPlan {
    spec: MixSpec,
    slots: u64,
    general: Track,
    specialised: Track,
    spans: Vec<Span>,
}

/// One phase's slots.
#[derive(Debug, Clone)]
struct Span {
    from: u64,
    lanes: Vec<Lane>,
    /// Specialised draws before the phase.
    before: u64,
}

/// A stream of slots in which the weight is kept: all of them, or those reserved for one general source.
#[derive(Debug, Clone)]
struct Lane {
    /// The phase's first position in the stream.
    from: u64,
    /// The phase's positions.
    len: u64,
    /// The weight over them.
    curve: WeightCurve,
    /// φ, in parts: where in its period the phase begins.
    phi: u64,
    /// Specialised draws in this lane before the phase.
    before: u64,
}

impl Span {
    /// Specialised draws among the first positions of a lane, of this phase.
    fn count(&self, lane: usize, positions: u64) -> u64 {
        let lane = &self.lanes[lane];
        lane.curve.count(positions - lane.from, lane.len, lane.phi)
    }
}

impl MixPlan {
    /// Checks the spec and lays out its phases.
    ///
    /// # Errors
    /// An unknown source, an empty one, a zero batch or length, a weight so small that its source would never be drawn,
    /// more specialised sequences than a phase has slots, or a budget above `max_epochs`: it names the source, need, have,
    /// and the latest start and highest weight that would fit.
    pub fn build(spec: MixSpec) -> Result<Self, Error> {
        let plan = Self::lay_out(spec)?;
        plan.check_sources()?;
        plan.check_budgets()?;
        plan.check_drawn()?;
        Ok(plan)
    }

    /// The first phases of a mixture whose whole was [built](Self::build): every draw before the end of the last of them
    /// is the whole's. Budgets, and whether each source is drawn at all, are matters of the whole and not looked at again.
    ///
    /// # Errors
    /// As [`build`](Self::build), but for budgets and weights.
    pub fn prefix(spec: MixSpec) -> Result<Self, Error> {
        let plan = Self::lay_out(spec)?;
        plan.check_sources()?;
        Ok(plan)
    }

    /// The plan without a look at budgets.
    fn lay_out(spec: MixSpec) -> Result<Self, Error> {
        for (field, value) in [("batch", spec.batch), ("sequence length", spec.time)] {
            if value == 0 {
                return Err(Error::field(field, 0, "must be at least 1"));
            }
        }
        let timeline = &spec.timeline;
        let slots = timeline.end().0.checked_mul(spec.batch).filter(|s| *s <= WeightCurve::MAX_SLOTS);
        let slots = slots.ok_or_else(|| {
            let limit = format!("times {} steps exceeds {} slots", timeline.end(), WeightCurve::MAX_SLOTS);
            Error::field("batch", spec.batch, limit)
        })?;
        if slots.checked_mul(spec.time).is_none() {
            let limit = format!("times {slots} sequences is more tokens than can be counted");
            return Err(Error::field("sequence length", spec.time, limit));
        }
        for (i, phase) in timeline.phases().iter().enumerate() {
            let slots = (timeline.phase_end(i).0 - phase.start.0) * spec.batch;
            if let WeightCurve::Sequences(sequences) = phase.weight
                && sequences > slots
            {
                let limit =
                    format!("must not exceed the {slots} sequences from its start to the next phase or the end");
                return Err(Error::field(format!("sequences of the phase at step {}", phase.start), sequences, limit));
            }
        }
        let general = Track::new(spec.indices(&timeline.general_sources())?);
        let specialised = Track::new(spec.indices(&timeline.specialised_sources())?);
        let mut plan = Self { slots, general, specialised, spans: Vec::new(), spec };
        match plan.spec.pairing {
            // Lanes are the general sources' slots: these come first.
            Pairing::Displace => {
                plan.lay_out_general();
                plan.lay_out_phases();
            }
            // Positions of the general side are what the phases leave over.
            Pairing::Shift => {
                plan.lay_out_phases();
                plan.lay_out_general();
            }
        }
        Ok(plan)
    }

    fn lay_out_general(&mut self) {
        let timeline = self.spec.timeline.clone();
        let names: Vec<String> = timeline.general_sources().into_iter().map(str::to_owned).collect();
        let place = |name: &str| names.iter().position(|n| n == name).unwrap_or(0);
        let mut general = std::mem::replace(&mut self.general, Track::new(Vec::new()));
        let changes = timeline.phases().iter().filter_map(|p| Some((p.start, p.general.as_ref()?)));
        let mut last = None;
        for (start, shares) in std::iter::once((Step(0), timeline.general())).chain(changes) {
            // A phase that repeats the shares goes on with them: arms that differ in phases alone stay paired.
            if last == Some(shares) {
                continue;
            }
            last = Some(shares);
            let slot = start.0 * self.spec.batch;
            let from = match self.spec.pairing {
                Pairing::Displace => slot,
                Pairing::Shift => slot - self.specialised_before(slot),
            };
            general.begin(from, shares, self.spec.seed, "split of the general side", place);
        }
        self.general = general;
    }

    /// Lays the phases out, one span each. With F the integral of a phase's weight, the specialised slots among the first n of a lane
    /// are ⌊F(n) + φ⌋, so that they differ from F(n) by less than 1 at every n:
    ///
    /// 1. A lane is a stream of slots in which the weight is kept for itself. Its positions at the phase's beginning and end are
    ///    counted once ([`lane_positions`](Self::lane_positions)).
    /// 2. φ comes from the seed, the phase's place and the lane alone, so that a phase draws the same whatever follows it.
    ///    A number of sequences is divided among the lanes by their positions, so that the parts add up to it.
    /// 3. Each lane goes on counting specialised slots where the phase before left it.
    /// 4. The specialised side's own tree of sources begins anew at as many draws as came before.
    /// 5. What the phase adds is counted for the next one.
    fn lay_out_phases(&mut self) {
        let timeline = self.spec.timeline.clone();
        let names: Vec<String> = timeline.specialised_sources().into_iter().map(str::to_owned).collect();
        let place = |name: &str| names.iter().position(|n| n == name).unwrap_or(0);
        let mut before = 0;
        for (i, phase) in timeline.phases().iter().enumerate() {
            let (from, to) = (phase.start.0 * self.spec.batch, timeline.phase_end(i).0 * self.spec.batch);
            let previous = self.spans.last();
            // Positions of the lanes before.
            let mut passed = 0;
            let lanes = (0..self.lane_count())
                .map(|lane| {
                    // 1 to 3.
                    let start = self.lane_positions(lane, from);
                    let len = self.lane_positions(lane, to) - start;
                    let purpose = format!("mixture phase {i}");
                    passed += len;
                    Lane {
                        from: start,
                        len,
                        curve: part_of(phase.weight, passed - len..passed, to - from),
                        phi: stream_key(self.spec.seed, &purpose, lane as u64) % Weight::PARTS,
                        before: previous.map_or(0, |s| s.lanes[lane].before + s.count(lane, start)),
                    }
                })
                .collect();
            // 4.
            if let Some(shares) = &phase.specialised {
                self.specialised.begin(before, shares, self.spec.seed, "split of the specialised side", place);
            }
            let span = Span { from, lanes, before };
            // 5.
            before += (0..span.lanes.len()).map(|l| span.count(l, self.lane_positions(l, to))).sum::<u64>();
            self.spans.push(span);
        }
    }

    /// Streams in which the weight is kept: one a general source under Displace, else one.
    fn lane_count(&self) -> usize {
        match self.spec.pairing {
            Pairing::Displace => self.general.sources().len(),
            Pairing::Shift => 1,
        }
    }

    /// How many of the first `slots` slots are of a lane.
    fn lane_positions(&self, lane: usize, slots: u64) -> u64 {
        match self.spec.pairing {
            // One source takes every slot: no need to walk its tree.
            Pairing::Displace if self.general.sources().len() > 1 => self.general.count(lane, slots),
            _ => slots,
        }
    }

    fn span_at(&self, slot: u64) -> Option<&Span> {
        self.spans[..self.spans.partition_point(|s| s.from <= slot)].last()
    }

    /// Specialised draws among the first `slots` slots.
    fn specialised_before(&self, slots: u64) -> u64 {
        let Some(span) = self.span_at(slots) else { return 0 };
        span.before + (0..span.lanes.len()).map(|l| span.count(l, self.lane_positions(l, slots))).sum::<u64>()
    }

    /// The spec it was built from.
    pub fn spec(&self) -> &MixSpec {
        &self.spec
    }

    /// Slots in all.
    pub fn slots(&self) -> u64 {
        self.slots
    }

    /// A source's size.
    ///
    /// # Panics
    /// If there is no such source.
    pub fn source(&self, source: usize) -> &SourceSize {
        &self.spec.sources[source]
    }

    /// What fills a slot.
    ///
    /// # Panics
    /// If `slot` is not below [`slots`](Self::slots).
    pub fn draw(&self, slot: u64) -> Draw {
        assert!(slot < self.slots, "slot {slot} of a plan of {}", self.slots);
        let (side, source, index) = self.place(slot);
        let size = self.source(source);
        let (epoch, place) = match self.is_shared(source) {
            false => (index / size.sequences, index % size.sequences),
            true => self.place_in_shared(source, side, slot, index),
        };
        let key = stream_key(self.spec.seed, &format!("order of {}", size.name), epoch);
        let sequence = Permutation::new(size.sequences, key).apply(place);
        Draw { source, epoch, sequence }
    }

    /// The slot's side, source, and how many of that source's sequences come before it on that side.
    fn place(&self, slot: u64) -> (Side, usize, u64) {
        let (lane, position) = match self.spec.pairing {
            Pairing::Displace => self.general.locate(slot),
            Pairing::Shift => (0, slot),
        };
        if let Some(span) = self.span_at(slot)
            && span.count(lane, position + 1) > span.count(lane, position)
        {
            let (place, index) = self.specialised.locate(self.specialised_before(slot));
            return (Side::Specialised, self.specialised.sources()[place], index);
        }
        match self.spec.pairing {
            Pairing::Displace => (Side::General, self.general.sources()[lane], position),
            Pairing::Shift => {
                let (place, index) = self.general.locate(slot - self.specialised_before(slot));
                (Side::General, self.general.sources()[place], index)
            }
        }
    }
}

/// A side of a mixture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    General,
    Specialised,
}

/// A phase's curve over a part of its positions: of a number of sequences the part of the number.
fn part_of(curve: WeightCurve, positions: std::ops::Range<u64>, of: u64) -> WeightCurve {
    let WeightCurve::Sequences(sequences) = curve else { return curve };
    let before = |positions: u64| (u128::from(sequences) * u128::from(positions) / u128::from(of.max(1))) as u64;
    WeightCurve::Sequences(before(positions.end) - before(positions.start))
}

impl MixSpec {
    /// Steps of `batch` sequences of `time` tokens each; seed 0, paired arms, each sequence once at most.
    pub fn new(timeline: Timeline, sources: Vec<SourceSize>, batch: u64, time: u64) -> Self {
        Self { seed: 0, batch, time, timeline, sources, pairing: Pairing::default(), max_epochs: 1.0 }
    }

    fn indices(&self, names: &[&str]) -> Result<Vec<usize>, Error> {
        let index = |name: &&str| {
            self.sources.iter().position(|s| s.name == *name).ok_or_else(|| Error::UnknownSource {
                name: (*name).to_owned(),
                known: self.sources.iter().map(|s| s.name.clone()).collect(),
            })
        };
        names.iter().map(index).collect()
    }
}
