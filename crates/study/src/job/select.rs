//! Choosing a learning rate of a grid by the loss on the validation split; it may ask for more rates.

use fused_ops::TrainingBackend;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Context, Cost, Evaluate, Input, Kind};
use crate::Error;
use crate::address::Address;
use crate::store::{Status, Store};

/// A rate, and the evaluations of the models that were fine-tuned with it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Candidate {
    /// The rate.
    pub(crate) rate: f64,
    /// One evaluation a pretraining seed.
    pub(crate) evaluations: Vec<Address>,
}

/// Chooses a rate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Select {
    /// What messages call it.
    pub(crate) label: String,
    /// What was tried.
    pub(crate) candidates: Vec<Candidate>,
    /// How often the grid may still grow.
    pub(crate) extend: u32,
}

/// A choice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Selected {
    /// The rate with the lowest mean loss; the first of several.
    pub(crate) rate: f64,
    /// Whether it is the lowest or highest of the grid.
    pub(crate) at_edge: bool,
    /// A further rate to be tried before the choice counts.
    pub(crate) asks: Option<f64>,
    /// Mean loss by candidate; `None` where a fine-tune diverged, which counts as an infinite loss.
    pub(crate) losses: Vec<Option<f64>>,
}

impl Kind for Select {
    const NAME: &'static str = "select";
    const VERSION: u32 = 1;
    type Output = Selected;

    fn address(&self) -> Address {
        Self::identified_by(&json!({ "candidates": self.candidates, "extend": self.extend }))
    }

    fn label(&self) -> String {
        self.label.clone()
    }

    fn inputs(&self) -> Vec<Input> {
        self.candidates.iter().flat_map(|c| c.evaluations.iter().map(Input::outcome)).collect()
    }

    fn cost(&self) -> Cost {
        Cost::of("select", 1.0)
    }

    fn run<AB: TrainingBackend>(&self, cx: &mut Context<'_, AB>) -> Result<Self::Output, Error> {
        let losses = self.candidates.iter().map(|c| mean(cx.store, c)).collect::<Result<Vec<_>, _>>()?;
        let grid: Vec<f64> = self.candidates.iter().map(|c| c.rate).collect();
        let Some(best) = lowest(&losses) else {
            let rates = grid.iter().map(|rate| format!("{rate:e}")).collect::<Vec<_>>().join(", ");
            let first = why(cx.store, &self.candidates)?.map_or_else(String::new, |why| format!("; the first: {why}"));
            let reason = format!("no learning rate of the grid ({rates}) gives a finite loss{first}");
            return Err(Error::NotFinite { what: self.label.clone(), reason });
        };
        let beyond = beyond(&grid, best);
        let selected =
            Selected { rate: grid[best], at_edge: beyond.is_some(), asks: beyond.filter(|_| self.extend > 0), losses };
        if selected.at_edge && selected.asks.is_none() {
            cx.report.note(&format!("{}: {:e} lies at the edge of the grid", self.label, selected.rate));
        }
        Ok(selected)
    }
}

/// Why the first candidate has no loss.
fn why(store: &Store, candidates: &[Candidate]) -> Result<Option<String>, Error> {
    for address in candidates.iter().flat_map(|c| &c.evaluations) {
        if let Status::Failed(failure) = store.status::<Evaluate>(address)? {
            // A failure that follows from another one says which.
            return Ok(Some(if failure.root.is_some() { failure.reason } else { failure.to_string() }));
        }
    }
    Ok(None)
}

/// The mean loss of a candidate; `None` if one of its fine-tunes diverged.
fn mean(store: &Store, candidate: &Candidate) -> Result<Option<f64>, Error> {
    let mut sum = 0.0;
    for address in &candidate.evaluations {
        match store.status::<Evaluate>(address)? {
            Status::Failed(failure) if failure.certain => return Ok(None),
            _ => {}
        }
        let evaluation = store.result::<Evaluate>(address)?;
        sum += evaluation.ok_or_else(|| Error::NoJob { address: address.clone() })?.total().nats_per_token();
    }
    Ok(Some(sum / candidate.evaluations.len().max(1) as f64))
}

/// The place of the first lowest loss.
fn lowest(losses: &[Option<f64>]) -> Option<usize> {
    let mut best: Option<(f64, usize)> = None;
    for (i, loss) in losses.iter().enumerate() {
        if let Some(loss) = loss
            && best.is_none_or(|(lowest, _)| *loss < lowest)
        {
            best = Some((*loss, i));
        }
    }
    best.map(|(_, i)| i)
}

/// The rate beyond the edge at which the best one lies, by the ratio of the two outermost rates; `None` if it lies inside.
fn beyond(grid: &[f64], best: usize) -> Option<f64> {
    let mut sorted = grid.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let n = sorted.len();
    if n < 2 {
        return None;
    }
    let next = if grid[best] == sorted[0] {
        sorted[0] * sorted[0] / sorted[1]
    } else if grid[best] == sorted[n - 1] {
        sorted[n - 1] * sorted[n - 1] / sorted[n - 2]
    } else {
        return None;
    };
    // A rate to be read, not the last bits of a division.
    let next = format!("{next:.9e}").parse().unwrap_or(next);
    (next.is_finite() && next > 0.0).then_some(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_lowest_wins_and_a_diverged_rate_never_does() {
        assert_eq!(lowest(&[Some(2.0), Some(1.0), Some(1.0), None]), Some(1));
        assert_eq!(lowest(&[None, Some(9.0)]), Some(1));
        assert_eq!(lowest(&[None, None]), None);
    }

    #[test]
    fn a_grid_grows_by_the_ratio_at_its_edge() {
        let close = |found: Option<f64>, expected: f64| (found.unwrap() / expected - 1.0).abs() < 1e-12;
        assert!(close(beyond(&[1e-3, 2e-3, 4e-3], 2), 8e-3));
        assert!(close(beyond(&[1e-3, 2e-3, 6e-3], 0), 5e-4));
        // In any order.
        assert!(close(beyond(&[6e-3, 1e-3, 2e-3], 0), 18e-3));
        assert_eq!(beyond(&[1e-3, 2e-3, 4e-3], 1), None);
        assert_eq!(beyond(&[1e-3], 0), None);
    }
}
