//! How often intervals cover what they should, and tests reject what is true.
//!
//! Each module simulates one kind of number that a study's pages show, from a process whose truth is known, and computes it
//! with the functions that the pages use. A [`Rate`] is one line of the result: how often the interval covered, or the test
//! rejected, beside what was stated. Everything follows from a seed.

pub mod arms;
pub mod documents;
pub mod proximity;
mod random;
pub mod representations;
pub mod seeds;

pub use random::Random;

use rayon::prelude::*;

/// How often something was true.
#[derive(Debug, Clone, PartialEq)]
pub struct Rate {
    /// What was simulated.
    pub simulation: &'static str,
    /// Under which conditions.
    pub setting: String,
    /// What was counted.
    pub counted: String,
    /// How often it should be.
    pub stated: f64,
    /// How often it was.
    pub times: usize,
    /// Of how many repetitions.
    pub repetitions: usize,
    /// Of intervals: the mean standard error, as a multiple of the root mean square error. Above 1 they are wider than they
    /// need be.
    pub error_ratio: Option<f64>,
}

impl Rate {
    /// Of outcomes.
    pub fn of(
        simulation: &'static str,
        setting: impl Into<String>,
        counted: impl Into<String>,
        stated: f64,
        outcomes: impl IntoIterator<Item = bool>,
    ) -> Self {
        let (mut times, mut repetitions) = (0, 0);
        for outcome in outcomes {
            times += usize::from(outcome);
            repetitions += 1;
        }
        Self {
            simulation,
            setting: setting.into(),
            counted: counted.into(),
            stated,
            times,
            repetitions,
            error_ratio: None,
        }
    }

    /// With the errors of the estimates and their standard errors.
    #[must_use]
    pub fn with_errors(self, errors: impl IntoIterator<Item = (f64, f64)>) -> Self {
        let (mut squares, mut standard, mut count) = (0.0, 0.0, 0.0);
        for (error, standard_error) in errors {
            squares += error * error;
            standard += standard_error;
            count += 1.0;
        }
        Self { error_ratio: Some(standard / count / f64::sqrt(squares / count)), ..self }
    }

    /// The share.
    pub fn rate(&self) -> f64 {
        self.times as f64 / self.repetitions as f64
    }

    /// What so many repetitions leave open of it: Wilson's 95 % interval.
    pub fn interval(&self) -> (f64, f64) {
        let (n, p, z) = (self.repetitions as f64, self.rate(), 1.959_963_984_540_054);
        let centre = (p + z * z / (2.0 * n)) / (1.0 + z * z / n);
        let half = z / (1.0 + z * z / n) * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
        (centre - half, centre + half)
    }
}

/// The columns of [`row`].
pub const HEADER: &str = "simulation,setting,counted,stated,rate,rate_low,rate_high,repetitions,standard_error_ratio";

/// A rate as a line of CSV.
pub fn row(rate: &Rate) -> String {
    let (low, high) = rate.interval();
    format!(
        "\"{}\",\"{}\",\"{}\",{},{:.4},{low:.4},{high:.4},{},{}",
        rate.simulation,
        rate.setting,
        rate.counted,
        rate.stated,
        rate.rate(),
        rate.repetitions,
        rate.error_ratio.map_or_else(String::new, |ratio| format!("{ratio:.3}"))
    )
}

/// Repetitions of a simulation on all cores, each with randomness of its own.
pub fn repeat<T: Send>(repetitions: usize, seed: u64, simulate: impl Fn(&mut Random) -> T + Sync) -> Vec<T> {
    (0..repetitions as u64).into_par_iter().map(|index| simulate(&mut Random::new(seed, index))).collect()
}

/// Whether an interval holds a value.
pub fn covers(interval: Option<(f64, f64)>, truth: f64) -> bool {
    interval.is_some_and(|(low, high)| low <= truth && truth <= high)
}
