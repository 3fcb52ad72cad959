//! What can be asked of a study: each question says which jobs it needs, and answers from their results with a page.
//!
//! Adding one is one file here and one line in this list.

mod figure3;
mod losses;
mod proximity;
mod representations;
mod table1;
mod table2;
mod table5;
mod theory;

use crate::graph::Graph;
use crate::plan::Plan;
use crate::{Error, Page, Study};

pub use figure3::Figure3;
pub use losses::{Losses, Measurement};
pub use proximity::Similarities;
pub use representations::Representations;
pub use table1::{Table1, preflights};
pub use table2::Table2;
pub use table5::Table5;
pub use theory::Theory;

/// What is asked of a study.
///
/// ```
/// use study::{Error, Graph, Page, Question, Step};
///
/// /// How far each arm's loss on general text is after half of the run.
/// struct HalfWay;
///
/// impl HalfWay {
///     /// Adds the jobs; gives back those that the answer reads.
///     fn losses(&self, graph: &mut Graph<'_>) -> Result<Vec<study::Evaluate>, Error> {
///         let half = Step(graph.study().spec().pretrain.steps / 2);
///         let arms = graph.study().arms();
///         arms.map(|arm| {
///             let state = graph.state(arm, 0, half)?;
///             graph.general_loss_of(&state)
///         })
///         .collect()
///     }
/// }
///
/// impl Question for HalfWay {
///     fn name(&self) -> &str {
///         "halfway"
///     }
///
///     fn needs(&self, graph: &mut Graph<'_>) -> Result<(), Error> {
///         self.losses(graph).map(|_| ())
///     }
///
///     fn answer(&self, graph: &mut Graph<'_>) -> Result<Page, Error> {
///         let mut page = Page::new("Half way");
///         for job in self.losses(graph)? {
///             page.notes.push(match graph.loss(&job)? {
///                 Ok(loss) => format!("{}: {:.3}", job.label, loss.loss),
///                 Err(failure) => format!("failed: {failure}"),
///             });
///         }
///         Ok(page)
///     }
/// }
/// ```
pub trait Question {
    /// What files of the answer and records of the store are called.
    fn name(&self) -> &str;

    /// Whether models are trained for it. Where not, arms whose mixture cannot be had are marked, not an error.
    fn trains(&self) -> bool {
        true
    }

    /// Whether a study can answer it: asked before anything is run.
    ///
    /// # Errors
    /// What the study lacks.
    fn check(&self, study: &Study) -> Result<(), Error> {
        let _ = study;
        Ok(())
    }

    /// Adds the jobs whose results the answer needs. Called once a round: what is chosen in one round, such as a learning
    /// rate, may ask for more in the next.
    ///
    /// # Errors
    /// Jobs that cannot be asked for.
    fn needs(&self, graph: &mut Graph<'_>) -> Result<(), Error>;

    /// The answer, from the results of the jobs. What failed is said on the page.
    ///
    /// # Errors
    /// Results that cannot be read or make no page.
    fn answer(&self, graph: &mut Graph<'_>) -> Result<Page, Error>;

    /// The answer for a study that holds token counts alone.
    ///
    /// # Errors
    /// A question that needs the data.
    fn on_stated(&self, study: &Study, plan: &Plan) -> Result<Page, Error> {
        let _ = (study, plan);
        let reason = "preset = paper holds token counts alone: plan it (--print-plan), or give --data".to_owned();
        Err(Error::Usage { reason })
    }
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
