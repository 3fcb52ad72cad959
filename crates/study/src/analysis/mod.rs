//! What is asked of a finished study besides its losses: proximity of its data, representations, the theory's terms.

mod bridging;
mod proximity;
mod representations;
mod theory;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::files::{key, read_json, remove_leftovers, write_json};
use crate::{Error, Execution, Page, Progress, StudyResults, StudySpec};

pub use bridging::figure3;
pub use proximity::{figure2, figure7};
pub use representations::Representations;
pub use theory::theory;

/// What is asked of a study. A function of an [`Analysis`] is one.
pub trait Question {
    /// Whether a study can answer it: asked before anything is trained.
    ///
    /// # Errors
    /// What the study lacks.
    fn check(&self, spec: &StudySpec) -> Result<(), Error> {
        let _ = spec;
        Ok(())
    }

    /// The answer.
    ///
    /// # Errors
    /// Measurements that failed, or a signal.
    fn answer(&self, analysis: &mut Analysis<'_, '_>) -> Result<Page, Error>;
}

impl<F: Fn(&mut Analysis<'_, '_>) -> Result<Page, Error>> Question for F {
    fn answer(&self, analysis: &mut Analysis<'_, '_>) -> Result<Page, Error> {
        self(analysis)
    }
}

/// A finished study, and what can be measured on its models.
pub struct Analysis<'a, 'b> {
    /// The study.
    pub execution: &'a Execution<'b>,
    /// Its results.
    pub results: &'a StudyResults,
    /// Where progress is told, and where signals are seen.
    pub progress: &'a mut Progress,
}

impl Analysis<'_, '_> {
    /// The stored result of a measurement, or `job`'s, stored under `kind`.
    fn stored<T: Serialize + DeserializeOwned>(
        &mut self,
        kind: &str,
        inputs: &impl Serialize,
        job: impl FnOnce(&mut Progress) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let dir = self.execution.store.join(kind).join(key(inputs));
        let done = dir.join("done.json");
        if let Some(result) = read_json(&done)? {
            remove_leftovers(&dir)?;
            return Ok(result);
        }
        self.progress.signal.check()?;
        write_json(&dir.join("inputs.json"), inputs)?;
        let result = job(self.progress)?;
        write_json(&done, &result)?;
        remove_leftovers(&dir)?;
        Ok(result)
    }
}

/// A place by its name.
fn place<'s>(what: &str, name: &str, names: impl Iterator<Item = &'s String> + Clone) -> Result<usize, Error> {
    let known = || names.clone().cloned().collect::<Vec<_>>().join(", ");
    let found = names.clone().position(|n| n == name);
    found.ok_or_else(|| Error::field(what, name, format!("is not in the study; there are: {}", known())))
}

/// A number for a table; nothing where there is none.
fn number(value: f64, decimals: usize) -> String {
    if value.is_nan() { "–".to_owned() } else { format!("{value:.decimals$}") }
}

/// With its sign.
fn signed(value: f64, decimals: usize) -> String {
    if value.is_nan() { "–".to_owned() } else { format!("{value:+.decimals$}") }
}

/// An interval's ends.
fn ends(interval: Option<(f64, f64)>, decimals: usize) -> [String; 2] {
    interval.map_or(["–".to_owned(), "–".to_owned()], |(low, high)| [signed(low, decimals), signed(high, decimals)])
}
