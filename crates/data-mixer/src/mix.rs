//! The mixture: from a slot to its draw, exactly and without state.

use schedule::{Step, Timeline, Weight};

use crate::{Error, Permutation, stream_key};

/// A source's name and how many sequences it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceSize {
    /// Its name, as timelines use it.
    pub name: String,
    /// Whole sequences in it.
    pub sequences: u64,
}

impl SourceSize {
    /// A source.
    pub fn new(name: &str, sequences: u64) -> Self {
        Self { name: name.to_owned(), sequences }
    }
}

/// What a specialised slot does to the general source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pairing {
    /// The general source's index is the slot's: arms of one seed draw the same general sequences wherever nothing
    /// displaced them; displaced ones are reserved but not drawn.
    #[default]
    Displace,
    /// The general source is consumed without gaps.
    Shift,
}

/// All that determines every draw.
#[derive(Debug, Clone)]
pub struct MixSpec {
    /// Seed of orders and phases.
    pub seed: u64,
    /// Slots of a step: the global batch, whatever devices or micro-batches it is computed in.
    pub batch: u64,
    /// When what is mixed in.
    pub timeline: Timeline,
    /// The general source.
    pub general: SourceSize,
    /// The specialised sources.
    pub specialised: Vec<SourceSize>,
    /// Paired or gapless general draws.
    pub pairing: Pairing,
    /// How often a sequence may be drawn.
    pub max_epochs: f64,
}

/// One slot's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draw {
    /// 0 is the general source, i the (i−1)-th specialised one.
    pub source: usize,
    /// How many times the source was gone through before.
    pub epoch: u64,
    /// The sequence in the source.
    pub sequence: u64,
}

/// What a plan takes from one source, in sequences.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    /// The source.
    pub source: String,
    /// Sequences there are.
    pub available: u64,
    /// Sequences drawn.
    pub drawn: u64,
    /// Sequences passed, drawn or displaced.
    pub reserved: u64,
}

/// A checked mixture.
#[derive(Debug, Clone)]
pub struct MixPlan {
    spec: MixSpec,
    spans: Vec<Span>,
    slots: u64,
}

/// One phase's slots.
#[derive(Debug, Clone)]
struct Span {
    from: u64,
    source: usize,
    weight: Weight,
    /// φ, in parts: where in its period the phase begins.
    phi: u64,
    /// Draws of this source before the phase.
    before: u64,
    /// Specialised draws, of any source, before the phase.
    specialised_before: u64,
}

impl Span {
    /// ⌊w·n + φ⌋: specialised draws among the first n slots. Differs from w·n by less than 1.
    fn count(&self, n: u64) -> u64 {
        let parts = u128::from(n) * u128::from(self.weight.parts()) + u128::from(self.phi);
        // At most n, because w ≤ 1 and φ < 1.
        (parts / u128::from(Weight::PARTS)) as u64
    }
}

impl MixPlan {
    /// Checks the spec and lays out its phases.
    ///
    /// # Errors
    /// An unknown source, an empty one, a zero batch, or a budget above `max_epochs`: it names the source, need, have,
    /// and the latest start and highest weight that would fit.
    pub fn build(spec: MixSpec) -> Result<Self, Error> {
        if spec.batch == 0 {
            return Err(Error::field("batch", 0, "must be at least 1"));
        }
        if !(spec.max_epochs.is_finite() && spec.max_epochs > 0.0) {
            return Err(Error::field("max_epochs", spec.max_epochs, "must be positive"));
        }
        let slots = spec
            .timeline
            .end()
            .0
            .checked_mul(spec.batch)
            .ok_or_else(|| Error::field("batch", spec.batch, "times the steps overflows"))?;
        let mut spans: Vec<Span> = Vec::new();
        let mut drawn = vec![0u64; spec.specialised.len()];
        for (i, phase) in spec.timeline.phases().iter().enumerate() {
            let source = spec.specialised.iter().position(|s| s.name == phase.source).ok_or_else(|| {
                let known = spec.specialised.iter().map(|s| s.name.clone()).collect();
                Error::UnknownSource { name: phase.source.clone(), known }
            })?;
            let from = phase.start.0 * spec.batch;
            let span = Span {
                from,
                source,
                weight: phase.weight,
                phi: stream_key(spec.seed, &format!("mixture phase of {}", phase.source), i as u64) % Weight::PARTS,
                before: drawn[source],
                specialised_before: drawn.iter().sum(),
            };
            let end = spec.timeline.phases().get(i + 1).map_or(slots, |next| next.start.0 * spec.batch);
            drawn[source] += span.count(end - from);
            spans.push(span);
        }
        let plan = Self { spec, spans, slots };
        plan.check_budgets()?;
        Ok(plan)
    }

    /// The spec it was built from.
    pub fn spec(&self) -> &MixSpec {
        &self.spec
    }

    /// Slots in all.
    pub fn slots(&self) -> u64 {
        self.slots
    }

    /// The source's size: 0 is the general one.
    pub fn source(&self, source: usize) -> &SourceSize {
        if source == 0 { &self.spec.general } else { &self.spec.specialised[source - 1] }
    }

    /// What fills a slot.
    ///
    /// # Panics
    /// If `slot` is not below [`slots`](Self::slots).
    pub fn draw(&self, slot: u64) -> Draw {
        assert!(slot < self.slots, "slot {slot} of a plan of {}", self.slots);
        let (source, index) = self.place(slot);
        let size = self.source(source);
        let epoch = index / size.sequences;
        let key = stream_key(self.spec.seed, &format!("order of {}", size.name), epoch);
        let sequence = Permutation::new(size.sequences, key).apply(index % size.sequences);
        Draw { source, epoch, sequence }
    }

    /// The slot's source and how many of that source's sequences come before it.
    fn place(&self, slot: u64) -> (usize, u64) {
        let Some(span) = self.spans[..self.spans.partition_point(|s| s.from <= slot)].last() else {
            return (0, slot);
        };
        let n = slot - span.from;
        let count = span.count(n);
        if span.count(n + 1) > count {
            return (span.source + 1, span.before + count);
        }
        match self.spec.pairing {
            Pairing::Displace => (0, slot),
            Pairing::Shift => (0, slot - span.specialised_before - count),
        }
    }

    /// Draws of each specialised source among the first `slots` slots.
    fn specialised_counts(&self, slots: u64) -> Vec<u64> {
        let mut counts = vec![0; self.spec.specialised.len()];
        for (i, span) in self.spans.iter().enumerate() {
            let end = self.spans.get(i + 1).map_or(self.slots, |next| next.from).min(slots);
            counts[span.source] += span.count(end.saturating_sub(span.from));
        }
        counts
    }

    /// What the plan takes from each source up to a step, the general one first.
    pub fn seen_by(&self, step: Step) -> Vec<Budget> {
        let slots = step.0.saturating_mul(self.spec.batch).min(self.slots);
        let counts = self.specialised_counts(slots);
        let drawn = slots - counts.iter().sum::<u64>();
        let reserved = match self.spec.pairing {
            Pairing::Displace => slots,
            Pairing::Shift => drawn,
        };
        let general =
            Budget { source: self.spec.general.name.clone(), available: self.spec.general.sequences, drawn, reserved };
        let rest = self.spec.specialised.iter().zip(counts).map(|(s, drawn)| Budget {
            source: s.name.clone(),
            available: s.sequences,
            drawn,
            reserved: drawn,
        });
        std::iter::once(general).chain(rest).collect()
    }

    /// What the whole plan takes from each source.
    pub fn budgets(&self) -> Vec<Budget> {
        self.seen_by(self.spec.timeline.end())
    }

    fn check_budgets(&self) -> Result<(), Error> {
        for (i, budget) in self.budgets().into_iter().enumerate() {
            if budget.available == 0 && budget.reserved > 0 {
                return Err(Error::field(format!("sequences of {}", budget.source), 0, "must be at least 1"));
            }
            let allowed = (budget.available as f64 * self.spec.max_epochs) as u64;
            if budget.reserved > allowed {
                return Err(Error::Budget {
                    need: budget.reserved,
                    have: budget.available,
                    max_epochs: self.spec.max_epochs,
                    remedy: if i == 0 { self.fewer_steps(allowed) } else { self.what_fits(i - 1, allowed) },
                    source_name: budget.source,
                });
            }
        }
        Ok(())
    }

    fn fewer_steps(&self, allowed: u64) -> String {
        format!("{} steps of {} sequences would fit", allowed / self.spec.batch, self.spec.batch)
    }

    /// For a source of one phase: the latest start at this weight and the highest weight from this start.
    fn what_fits(&self, source: usize, allowed: u64) -> String {
        let mut spans = self.spans.iter().enumerate().filter(|(_, s)| s.source == source);
        let (Some((i, span)), None) = (spans.next(), spans.next()) else {
            return "shorten its phases or lower their weights".to_owned();
        };
        let end = self.spans.get(i + 1).map_or(self.slots, |next| next.from);
        // ⌊(w·n + φ)/PARTS⌋ ≤ allowed, solved for n and for w.
        let room = (u128::from(allowed) + 1) * u128::from(Weight::PARTS) - 1 - u128::from(span.phi);
        let slots_that_fit = u64::try_from(room / u128::from(span.weight.parts().max(1))).unwrap_or(u64::MAX);
        let start = end.saturating_sub(slots_that_fit).div_ceil(self.spec.batch);
        let parts = (room / u128::from((end - span.from).max(1))).min(u128::from(Weight::PARTS));
        let weight = Weight::from_parts(parts as u64).unwrap_or(Weight::ONE);
        format!("a start at step {start} or later, or a weight up to {weight}, would fit")
    }
}
