//! Table 2: does midtraining help fine-tuning on the domain it resembles, and what does it cost in general loss?

use super::Question;
use super::losses::{self, Losses};
use crate::graph::Graph;
use crate::{Error, Page, render};

/// The losses of every arm on every set, as differences to the control.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Table2;

impl Question for Table2 {
    fn name(&self) -> &str {
        "table2"
    }

    fn needs(&self, graph: &mut Graph<'_>) -> Result<(), Error> {
        losses::needs(graph)
    }

    fn answer(&self, graph: &mut Graph<'_>) -> Result<Page, Error> {
        render::table2(graph.study(), &Losses::of(graph)?)
    }
}
