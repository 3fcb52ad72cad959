//! A source on both sides of a mixture: drawn without repeats across both.
//!
//! In each epoch the side that names the source first takes sequences from the beginning of the source's order, the other one
//! from its end, until the two meet. (So a phase draws the same, whether the other side follows later or not.)
//!
//! 1. A draw's place among all that both sides have passed so far says its epoch. (A slot that displaces this source's own
//!    sequence passes two: the one that is reserved, then the one that is drawn.)
//! 2. How far each side was when the epoch began is found by bisection over the slots: both counts have closed forms.
//! 3. The first side's place in the epoch counts from there; the other's counts back from the last.

use schedule::{Shares, Step};

use super::budget::first;
use super::{MixPlan, Side};

/// How many of a source's sequences the two sides have passed.
#[derive(Debug, Clone, Copy)]
struct Passed {
    general: u64,
    specialised: u64,
}

impl Passed {
    fn total(self) -> u64 {
        self.general + self.specialised
    }
}

impl MixPlan {
    /// Whether a source stands on both sides.
    pub(super) fn is_shared(&self, source: usize) -> bool {
        self.general.sources().contains(&source) && self.specialised.sources().contains(&source)
    }

    /// What both sides have passed of a source by so many slots.
    fn passed(&self, source: usize, slots: u64) -> Passed {
        let specialised = self.drawn_specialised(source, slots);
        Passed { general: self.passed_general(source, slots), specialised }
    }

    /// The epoch of a draw and its place in the epoch's order. `index`: how many of the source come before it on its side.
    pub(super) fn place_in_shared(&self, source: usize, side: Side, slot: u64, index: u64) -> (u64, u64) {
        let sequences = self.source(source).sequences;
        // 1.
        let before = match side {
            Side::General => index + self.passed(source, slot).specialised,
            Side::Specialised => self.passed(source, slot + 1).general + index,
        };
        let epoch = before / sequences;
        // 2.
        let begun = self.epoch_begins(source, epoch * sequences);
        // 3.
        let place = match side {
            Side::General => index - begun.general,
            Side::Specialised => index - begun.specialised,
        };
        (epoch, if side == self.first_side(source) { place } else { sequences - 1 - place })
    }

    /// The side that names a source first; the general one where both do so at once.
    fn first_side(&self, source: usize) -> Side {
        let (timeline, name) = (&self.spec.timeline, &self.source(source).name);
        let names = |shares: &Shares| shares.iter().any(|(n, _)| n == name);
        let specialised = |p: &&schedule::Phase| p.specialised.as_ref().is_some_and(names);
        let first = timeline.phases().iter().find(specialised).map_or(timeline.end(), |p| p.start);
        let general = timeline.phases().iter().find(|p| p.general.as_ref().is_some_and(names));
        let general = if names(timeline.general()) { Step(0) } else { general.map_or(timeline.end(), |p| p.start) };
        if general <= first { Side::General } else { Side::Specialised }
    }

    /// How far both sides are when they have passed so many sequences together.
    fn epoch_begins(&self, source: usize, total: u64) -> Passed {
        if total == 0 {
            return Passed { general: 0, specialised: 0 };
        }
        let slots = first(self.slots, |slots| self.passed(source, slots).total() >= total);
        let passed = self.passed(source, slots);
        // The slot passed two, the last of which is the next epoch's: the specialised one.
        let beyond = passed.total() - total;
        Passed { specialised: passed.specialised - beyond, ..passed }
    }
}
