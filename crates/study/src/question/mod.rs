//! What can be asked of a study: each question says which jobs it needs, and answers from their results with a page.
//!
//! Adding one is one file here and one line in this list.

mod claims;
mod comparison;
mod figure1;
mod figure3;
mod figure4;
mod figure5;
mod figure8;
mod losses;
mod printed;
mod proximity;
mod rates;
mod representations;
mod table1;
mod table2;
mod table3;
mod table4;
mod table5;
mod table8;
mod theory;

use crate::graph::Graph;
use crate::plan::Plan;
use crate::protocol::{APPS, GENERAL, PYCODE, STARCODER};
use crate::{Error, Study};
use report::Page;

pub use claims::Claims;
pub use figure1::Figure1;
pub use figure3::Figure3;
pub use figure4::Figure4;
pub use figure5::Figure5;
pub use figure8::Figure8;
pub use proximity::Similarities;
pub use rates::{Table6, Table7};
pub use representations::Representations;
pub use table1::{Table1, preflights};
pub use table2::Table2;
pub use table3::{Continued, Table3};
pub use table4::Table4;
pub use table5::Table5;
pub use table8::Table8;
pub use theory::Theory;

/// What is asked of a study.
///
/// ```
/// use report::{Column, Format, Page, Table};
/// use study::{Error, Graph, Question, Step};
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
///     fn answer(&self, name: &str, graph: &mut Graph<'_>) -> Result<Page, Error> {
///         let (mut arms, mut losses) = (Vec::new(), Vec::new());
///         for job in self.losses(graph)? {
///             arms.push(job.label.clone());
///             losses.push(graph.loss(&job)?.ok().map(|loss| loss.total().nats_per_token()));
///         }
///         let table = Table::new(name, "Held-out loss on general text half way, nats per token")
///             .with(Column::text("mix", arms))
///             .with(Column::number("c4_loss", Format::Fixed(3), losses));
///         Ok(table.into())
///     }
/// }
/// ```
pub trait Question {
    /// What it is asked under where no other name is given.
    fn name(&self) -> &str;

    /// Whether models are trained for it. Where not, arms with an impossible mixture are marked, not an error.
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

    /// The answer, from the results of the jobs. What failed is said on the page. `name`: what it was asked under, for
    /// the names of its main table and of its figures.
    ///
    /// # Errors
    /// Results that cannot be read or make no page.
    fn answer(&self, name: &str, graph: &mut Graph<'_>) -> Result<Page, Error>;

    /// The answer for a study that holds token counts alone.
    ///
    /// # Errors
    /// A question that needs the data.
    fn on_stated(&self, name: &str, study: &Study, plan: &Plan) -> Result<Page, Error> {
        let _ = (name, study, plan);
        let reason = "the study holds token counts alone (data.stated, as in --preset paper): plan it (--print-plan), or give --data".to_owned();
        Err(Error::Usage { reason })
    }
}

/// Every question that a study can be asked, by its name.
const QUESTIONS: [(&str, &(dyn Question + Sync)); 23] = [
    ("table1", &Table1),
    ("table2", &Table2),
    ("table3", &Table3::PAPER),
    ("table4", &Table4),
    ("table5", &Table5),
    ("table6", &Table6),
    ("table7", &Table7),
    ("table8", &Table8),
    ("figure1", &Figure1::PAPER),
    ("figure2", &Similarities::Figure2),
    ("figure3", &Figure3),
    ("figure4", &Figure4::PAPER),
    ("figure5", &Figure5::PAPER),
    ("figure6", &Representations::of(STARCODER, PYCODE, APPS)),
    ("figure7", &Similarities::Figure7),
    ("figure8", &Figure8::PAPER),
    ("figure9", &Representations::of(STARCODER, PYCODE, APPS)),
    ("figure10", &Representations::of(STARCODER, PYCODE, APPS)),
    ("figure11", &Representations::of(STARCODER, PYCODE, GENERAL)),
    ("figure12", &Representations::of(STARCODER, PYCODE, GENERAL)),
    ("figure13", &Representations::of(STARCODER, PYCODE, GENERAL)),
    ("claims", &Claims::PAPER),
    ("theory", &Theory),
];

/// The names of all questions.
pub fn question_names() -> impl Iterator<Item = &'static str> {
    QUESTIONS.iter().map(|(name, _)| *name)
}

/// The question of a name. (Figures 6, 9 and 10 ask the same of models of three sizes, as do 11 to 13.)
///
/// # Errors
/// An unknown name (lists those there are).
pub fn question(name: &str) -> Result<&'static dyn Question, Error> {
    let found = QUESTIONS.iter().find(|(known, _)| *known == name);
    let names = || QUESTIONS.map(|(name, _)| name).join(", ");
    found
        .map(|(_, q)| *q as &dyn Question)
        .ok_or_else(|| Error::field("question", name, format!("is unknown; there are: {}", names())))
}

/// A question under a name: that of its files, and of its record in the store.
pub struct Named<'q>(pub &'q str, pub &'q dyn Question);

impl Question for Named<'_> {
    fn name(&self) -> &str {
        self.0
    }

    fn trains(&self) -> bool {
        self.1.trains()
    }

    fn check(&self, study: &Study) -> Result<(), Error> {
        self.1.check(study)
    }

    fn needs(&self, graph: &mut Graph<'_>) -> Result<(), Error> {
        self.1.needs(graph)
    }

    fn answer(&self, name: &str, graph: &mut Graph<'_>) -> Result<Page, Error> {
        self.1.answer(name, graph)
    }

    fn on_stated(&self, name: &str, study: &Study, plan: &Plan) -> Result<Page, Error> {
        self.1.on_stated(name, study, plan)
    }
}

/// What a page calls itself: `table2` is Table 2.
fn heading(name: &str) -> String {
    for (prefix, word) in [("table", "Table"), ("figure", "Figure")] {
        match name.strip_prefix(prefix) {
            Some(number) if number.parse::<u32>().is_ok() => return format!("{word} {number}"),
            _ => {}
        }
    }
    name.to_owned()
}
