//! What a plan takes from its sources, and whether they have it.

use schedule::{Shares, Step, Tokens, Weight, WeightCurve};

use super::{MixPlan, MixSpec, Pairing};
use crate::Error;

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

impl Budget {
    /// How often the source is gone through.
    pub fn epochs(&self) -> f64 {
        if self.reserved == 0 { 0.0 } else { self.reserved as f64 / self.available as f64 }
    }
}

impl MixPlan {
    /// What the plan takes from each source up to a step, in the order of [`MixSpec::sources`].
    pub fn seen_by(&self, step: Step) -> Vec<Budget> {
        let slots = step.0.saturating_mul(self.spec.batch).min(self.slots);
        (0..self.spec.sources.len())
            .map(|i| {
                let size = self.source(i);
                let (drawn, reserved) = (self.drawn(i, slots), self.reserved(i, slots));
                Budget { source: size.name.clone(), available: size.sequences, drawn, reserved }
            })
            .collect()
    }

    /// What the whole plan takes from each source.
    pub fn budgets(&self) -> Vec<Budget> {
        self.seen_by(self.spec.timeline.end())
    }

    /// The first step in which a sequence of the source is drawn that was drawn or displaced before; `None` if none is.
    pub fn first_repeat(&self, source: usize) -> Option<Step> {
        let available = self.source(source).sequences;
        if self.reserved(source, self.slots) <= available {
            return None;
        }
        let passed = first(self.slots, |slots| self.reserved(source, slots) > available);
        // Under Displace the slot that reserves it again may be displaced: the first that is not.
        let seen = self.drawn(source, passed - 1);
        if self.drawn(source, self.slots) == seen {
            return None;
        }
        let slots = first(self.slots, |slots| self.drawn(source, slots) > seen);
        Some(Step((slots - 1) / self.spec.batch))
    }

    /// Sequences of a source among the first slots, drawn or displaced.
    pub(super) fn reserved(&self, source: usize, slots: u64) -> u64 {
        self.passed_general(source, slots) + self.drawn_specialised(source, slots)
    }

    /// Sequences of a source that the general side passes in the first slots, drawn or displaced.
    pub(super) fn passed_general(&self, source: usize, slots: u64) -> u64 {
        let Some(place) = self.general_place(source) else { return 0 };
        match self.spec.pairing {
            Pairing::Displace => self.general.count(place, slots),
            Pairing::Shift => self.general.count(place, slots - self.specialised_before(slots)),
        }
    }

    /// Sequences of a source that the specialised side draws in the first slots.
    pub(super) fn drawn_specialised(&self, source: usize, slots: u64) -> u64 {
        let place = self.specialised.sources().iter().position(|s| *s == source);
        place.map_or(0, |place| self.specialised.count(place, self.specialised_before(slots)))
    }

    /// Sequences of a source drawn in the first slots.
    pub(super) fn drawn(&self, source: usize, slots: u64) -> u64 {
        let positions = self.passed_general(source, slots);
        let displaced = match (self.general_place(source), self.spec.pairing) {
            (Some(place), Pairing::Displace) => {
                self.span_at(slots).map_or(0, |s| s.lanes[place].before + s.count(place, positions))
            }
            _ => 0,
        };
        positions - displaced + self.drawn_specialised(source, slots)
    }

    fn general_place(&self, source: usize) -> Option<usize> {
        self.general.sources().iter().position(|s| *s == source)
    }

    pub(super) fn check_sources(&self) -> Result<(), Error> {
        for (i, size) in self.spec.sources.iter().enumerate() {
            if self.spec.sources[..i].iter().any(|s| s.name == size.name) {
                return Err(Error::field("sources", &size.name, "is named twice"));
            }
            let max_epochs = self.max_epochs(i);
            if !(max_epochs.is_finite() && max_epochs > 0.0) {
                let field = format!("max_epochs of {}", size.name);
                return Err(Error::field(field, max_epochs, "must be positive"));
            }
            if size.sequences == 0 && self.reserved(i, self.slots) > 0 {
                return Err(Error::field(format!("sequences of {}", size.name), 0, "must be at least 1"));
            }
        }
        Ok(())
    }

    fn max_epochs(&self, source: usize) -> f64 {
        self.source(source).max_epochs.unwrap_or(self.spec.max_epochs)
    }

    /// How many sequences of a source may be passed.
    fn allowed(&self, source: usize) -> u64 {
        self.source(source).allowed(self.max_epochs(source))
    }

    pub(super) fn check_budgets(&self) -> Result<(), Error> {
        for (i, budget) in self.budgets().into_iter().enumerate() {
            if !self.fits(i) {
                return Err(Error::Budget {
                    need: Tokens(budget.reserved.saturating_mul(self.spec.time)),
                    have: Tokens(budget.available.saturating_mul(self.spec.time)),
                    drawn: Tokens(budget.drawn.saturating_mul(self.spec.time)),
                    need_sequences: budget.reserved,
                    have_sequences: budget.available,
                    max_epochs: self.max_epochs(i),
                    remedy: self.remedy(i).into(),
                    source_name: budget.source,
                });
            }
        }
        Ok(())
    }

    fn fits(&self, source: usize) -> bool {
        self.reserved(source, self.slots) <= self.allowed(source)
    }

    fn remedy(&self, source: usize) -> String {
        match self.general_place(source) {
            Some(_) if self.is_shared(source) => {
                format!("{}; on its specialised side: {}", self.what_fits_general(source), self.what_fits(source))
            }
            Some(_) => self.what_fits_general(source),
            None => self.what_fits(source),
        }
    }

    /// For a general source: fewer steps; and where what is drawn of it would fit, not to reserve what is not drawn.
    fn what_fits_general(&self, source: usize) -> String {
        let (allowed, batch) = (self.allowed(source), self.spec.batch);
        let slots = first(self.slots, |slots| self.reserved(source, slots) > allowed) - 1;
        let steps = slots / batch;
        let timeline = &self.spec.timeline;
        let shorter = schedule::Timeline::new(Step(steps), timeline.general().clone(), timeline.phases().to_vec());
        let shorter = shorter.map(|timeline| Self::lay_out(MixSpec { timeline, ..self.spec.clone() }));
        let steps = match shorter {
            Ok(Ok(plan)) if plan.fits(source) => format!("{steps} steps of {batch} sequences would fit"),
            _ => {
                let epochs = self.reserved(source, self.slots) as f64 / self.source(source).sequences as f64;
                format!("max_epochs = {:.3} would allow it, or more text", (epochs * 1000.0).ceil() / 1000.0)
            }
        };
        let gapless = Self::lay_out(MixSpec { pairing: Pairing::Shift, ..self.spec.clone() });
        match gapless {
            Ok(gapless) if self.spec.pairing == Pairing::Displace && gapless.fits(source) => {
                let tokens = Tokens(gapless.reserved(source, self.slots).saturating_mul(self.spec.time));
                format!(
                    "{steps}; pairing = \"shift\" would fit: it reserves nothing for specialised slots and takes {tokens}, but \
                     arms then no longer draw the same general text"
                )
            }
            _ => steps,
        }
    }

    /// For a source of one phase: the latest start at this weight and the highest weight from this start.
    fn what_fits(&self, source: usize) -> String {
        let name = &self.source(source).name;
        let names = |shares: &Option<Shares>| shares.iter().flat_map(Shares::iter).any(|(n, _)| n == name);
        let phases = self.spec.timeline.phases();
        let mut mixed = phases.iter().enumerate().filter(|(_, p)| names(&p.specialised));
        let (Some((i, phase)), None) = (mixed.next(), mixed.next()) else {
            return "shorten its phases or lower their weights".to_owned();
        };
        let (start, end) = (phase.start.0, self.spec.timeline.phase_end(i).0);
        // Draws fall as the start moves back: the first that fits is the latest there need be.
        let later = start + first(end - start, |steps| self.would_fit(source, i, start + steps, phase.weight));
        let start_fits = match later {
            later if later < end => format!("a start at step {later} or later"),
            _ => "no later start".to_owned(),
        };
        let weight = match phase.weight {
            WeightCurve::Constant(weight) => weight,
            WeightCurve::Ramp { .. } => return format!("{start_fits} would fit"),
            WeightCurve::Sequences(sequences) => {
                let fits = |n: u64| self.would_fit(source, i, start, WeightCurve::Sequences(n));
                return match first(sequences, |n| !fits(n)) - 1 {
                    0 => format!("{start_fits} would fit"),
                    most => format!("up to {most} sequences would fit"),
                };
            }
        };
        let too_high = |parts: u64| {
            let weight = Weight::from_parts(parts).unwrap_or(Weight::ONE);
            !self.would_fit(source, i, start, weight.into())
        };
        let weight = Weight::from_parts(first(weight.parts(), too_high) - 1).unwrap_or(Weight::ZERO);
        format!("{start_fits}, or a weight up to {weight}, would fit")
    }

    /// Whether the source's budget would hold with another start and weight of one phase.
    fn would_fit(&self, source: usize, phase: usize, start: u64, weight: WeightCurve) -> bool {
        let mut phases = self.spec.timeline.phases().to_vec();
        phases[phase].start = Step(start);
        phases[phase].weight = weight;
        let (end, general) = (self.spec.timeline.end(), self.spec.timeline.general().clone());
        let timeline = schedule::Timeline::new(end, general, phases);
        let plan = timeline.map(|timeline| Self::lay_out(MixSpec { timeline, ..self.spec.clone() }));
        matches!(plan, Ok(Ok(plan)) if plan.fits(source))
    }

    /// A source with a weight must be drawn at least once.
    pub(super) fn check_drawn(&self) -> Result<(), Error> {
        for (i, budget) in self.budgets().into_iter().enumerate() {
            let expected = self.expected(i);
            if budget.drawn == 0 && expected > 0.0 {
                let slots = self.slots;
                return Err(Error::Vanishes { source_name: budget.source, expected, slots });
            }
        }
        Ok(())
    }

    /// How many sequences of a source the weights ask for.
    fn expected(&self, source: usize) -> f64 {
        let name = &self.source(source).name;
        let share = |shares: &Shares| shares.iter().find(|(n, _)| n == name).map_or(0.0, |(_, w)| w.as_f64());
        let timeline = &self.spec.timeline;
        let batch = self.spec.batch;
        let first_phase = timeline.phases().first().map_or(timeline.end(), |p| p.start);
        let mut general = share(timeline.general());
        let mut sum = general * (first_phase.0 * batch) as f64;
        for (i, phase) in timeline.phases().iter().enumerate() {
            let slots = (timeline.phase_end(i).0 - phase.start.0) * batch;
            let (numerator, scale) = phase.weight.integral(slots, slots);
            let specialised = numerator as f64 / (scale as f64 * Weight::PARTS as f64);
            general = phase.general.as_ref().map_or(general, share);
            sum += phase.specialised.as_ref().map_or(0.0, share) * specialised;
            sum += general * (slots as f64 - specialised);
        }
        sum
    }
}

/// The smallest n from 1 to `end` for which a condition holds that, once true, stays true; `end` if none.
pub(super) fn first(end: u64, holds: impl Fn(u64) -> bool) -> u64 {
    let (mut low, mut high) = (1, end.max(1));
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(middle) { high = middle } else { low = middle + 1 }
    }
    low
}
