//! Similarity of many corpora and mixtures, with labels.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{Distribution, Error, Similarity, SimilarityOptions, Warning, similarity, warning};

/// Similarities of rows with columns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SimilarityMatrix {
    /// Labels of the rows.
    pub rows: Vec<String>,
    /// Labels of the columns.
    pub columns: Vec<String>,
    /// Row by row.
    pub cells: Vec<Vec<Similarity>>,
    /// 95 % intervals over documents of each cell's numbers, low and high ends, row by row; `None` where there are none.
    pub intervals: Option<Vec<Vec<(Similarity, Similarity)>>>,
    /// What makes cells less comparable than they look: row, column, warning.
    pub warnings: Vec<(usize, usize, Warning)>,
}

impl SimilarityMatrix {
    /// Of labelled distributions, as they are: sizes that differ are in the warnings.
    ///
    /// # Errors
    /// As for [`similarity`], with the labels.
    pub fn of(
        rows: &[(String, Distribution)],
        columns: &[(String, Distribution)],
        options: &SimilarityOptions,
    ) -> Result<Self, Error> {
        let cell = |(row, a): &(String, Distribution), (column, b): &(String, Distribution)| {
            similarity(a, b, options).map_err(Error::within(&format!("{row} and {column}")))
        };
        let cells = rows.par_iter().map(|row| columns.iter().map(|column| cell(row, column)).collect());
        let cells = cells.collect::<Result<Vec<Vec<_>>, _>>()?;
        let pairs =
            rows.iter().enumerate().flat_map(|(i, a)| columns.iter().enumerate().map(move |(j, b)| (i, j, a, b)));
        let warnings = pairs.filter_map(|(i, j, a, b)| Some((i, j, warning(&a.1, &b.1)?))).collect();
        let labels = |of: &[(String, Distribution)]| of.iter().map(|(label, _)| label.clone()).collect();
        Ok(Self { rows: labels(rows), columns: labels(columns), cells, intervals: None, warnings })
    }

    /// One number of each cell, row by row.
    pub fn values(&self, value: impl Fn(&Similarity) -> f64) -> Vec<Vec<f64>> {
        self.cells.iter().map(|row| row.iter().map(&value).collect()).collect()
    }
}
