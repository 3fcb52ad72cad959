//! A mixture's weight over a phase: constant, a linear ramp, or a number of sequences, counted in closed form.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Weight;
use crate::weight::WeightVisitor;

/// The specialised side's weight over the slots of a phase. Stages are phases of their own.
///
/// In files: `"0.2"`, or `{ from = "0", to = "0.2" }`; a number of sequences is a field of its own
/// ([`Phase`](crate::Phase)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WeightCurve {
    /// The same from the phase's first slot to its last.
    Constant(Weight),
    /// From one weight at the phase's beginning to another at its end, in a straight line.
    Ramp {
        /// At the beginning.
        from: Weight,
        /// At the end.
        to: Weight,
    },
    /// Exactly so many specialised slots, evenly over the phase: as much exposure whenever the phase begins.
    Sequences(u64),
}

impl WeightCurve {
    /// The most slots of a phase for which counts are exact: about 9 quadrillion.
    pub const MAX_SLOTS: u64 = 1 << 46;

    /// How many of a phase's first `n` of `len` slots are specialised: `⌊F(n) + φ⌋` with F the integral of the weight
    /// over the slots and φ = `phi`/[`PARTS`](Weight::PARTS). It differs from F(n) by less than 1 at every n, and
    /// grows by at most 1 a slot.
    ///
    /// # Panics
    /// If `n` exceeds `len`, `len` exceeds [`MAX_SLOTS`](Self::MAX_SLOTS) or `phi` is not below `PARTS`.
    pub fn count(self, n: u64, len: u64, phi: u64) -> u64 {
        assert!(n <= len && len <= Self::MAX_SLOTS, "{n} of {len} slots");
        assert!(phi < Weight::PARTS, "phi = {phi}");
        if len == 0 {
            return 0;
        }
        let (numerator, scale) = self.integral(n, len);
        let count = (numerator + u128::from(phi) * scale) / (scale * u128::from(Weight::PARTS));
        // At most n, because no weight exceeds 1 and φ < 1. Of a number of sequences all, at n = len, because φ < 1.
        count as u64
    }

    /// F(n) in exact terms: (numerator, scale) with F = numerator / (scale · [`PARTS`](Weight::PARTS)). More sequences than
    /// slots count as one a slot.
    pub fn integral(self, n: u64, len: u64) -> (u128, u128) {
        let n = u128::from(n);
        match self {
            Self::Constant(weight) => (n * u128::from(weight.parts()), 1),
            Self::Ramp { .. } if len == 0 => (0, 1),
            Self::Ramp { from, to } => {
                // Slot j has the weight at its middle, from + (to − from)·(j + ½)/len: the sum over j < n is
                // from·n + (to − from)·n²/(2·len).
                let scale = 2 * u128::from(len);
                let (a, b) = (u128::from(from.parts()), u128::from(to.parts()));
                (a * n * (scale - n) + b * n * n, scale)
            }
            Self::Sequences(_) if len == 0 => (0, 1),
            Self::Sequences(sequences) => {
                (u128::from(sequences.min(len)) * n * u128::from(Weight::PARTS), u128::from(len))
            }
        }
    }

    /// The weight at a slot of the phase: for printing, never for draws.
    pub fn at(self, slot: u64, len: u64) -> f64 {
        match self {
            Self::Constant(weight) => weight.as_f64(),
            Self::Ramp { from, to } => {
                let progress = (slot as f64 + 0.5) / len.max(1) as f64;
                from.as_f64() + (to.as_f64() - from.as_f64()) * progress
            }
            Self::Sequences(sequences) => sequences as f64 / len.max(1) as f64,
        }
    }

    /// What it is called in files.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::Constant(_) | Self::Ramp { .. } => "weight",
            Self::Sequences(_) => "sequences",
        }
    }

    /// Whether nothing specialised is drawn at all.
    pub fn is_zero(self) -> bool {
        match self {
            Self::Constant(weight) => weight == Weight::ZERO,
            Self::Ramp { from, to } => from.max(to) == Weight::ZERO,
            Self::Sequences(sequences) => sequences == 0,
        }
    }

    /// The highest weight over a phase of so many slots; that of a number of sequences to a billionth.
    pub fn peak(self, len: u64) -> Weight {
        match self {
            Self::Constant(weight) => weight,
            Self::Ramp { from, to } => from.max(to),
            Self::Sequences(sequences) => {
                let parts = u128::from(sequences.min(len)) * u128::from(Weight::PARTS) / u128::from(len.max(1));
                Weight::from_parts(parts as u64).unwrap_or(Weight::ONE)
            }
        }
    }
}

impl From<Weight> for WeightCurve {
    fn from(weight: Weight) -> Self {
        Self::Constant(weight)
    }
}

impl fmt::Display for WeightCurve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Constant(weight) => weight.fmt(f),
            Self::Ramp { from, to } => write!(f, "{from} to {to}"),
            Self::Sequences(sequences) => write!(f, "{sequences} sequences"),
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RampFields {
    from: Weight,
    to: Weight,
}

impl Serialize for WeightCurve {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match *self {
            Self::Constant(weight) => weight.serialize(s),
            Self::Ramp { from, to } => RampFields { from, to }.serialize(s),
            Self::Sequences(_) => Err(serde::ser::Error::custom("a number of sequences is a field of its phase")),
        }
    }
}

impl<'de> Deserialize<'de> for WeightCurve {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = WeightCurve;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a decimal number from 0 to 1, or { from, to }")
            }
            fn visit_str<E: serde::de::Error>(self, v: &str) -> Result<WeightCurve, E> {
                WeightVisitor.visit_str(v).map(WeightCurve::Constant)
            }
            fn visit_f64<E: serde::de::Error>(self, v: f64) -> Result<WeightCurve, E> {
                WeightVisitor.visit_f64(v).map(WeightCurve::Constant)
            }
            fn visit_i64<E: serde::de::Error>(self, v: i64) -> Result<WeightCurve, E> {
                WeightVisitor.visit_i64(v).map(WeightCurve::Constant)
            }
            fn visit_u64<E: serde::de::Error>(self, v: u64) -> Result<WeightCurve, E> {
                WeightVisitor.visit_u64(v).map(WeightCurve::Constant)
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<WeightCurve, A::Error> {
                let RampFields { from, to } =
                    RampFields::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                Ok(WeightCurve::Ramp { from, to })
            }
        }
        d.deserialize_any(Visitor)
    }
}
