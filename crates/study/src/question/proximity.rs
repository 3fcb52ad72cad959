//! How close the mixes and the fine-tuning sets are (Appendix D; Figures 2 and 7).

use metrics_proximity::{Advantage, JsForm, SimilarityMatrix};

use super::{Question, ends, number, signed};
use crate::graph::{Graph, mixture};
use crate::job;
use crate::render::heatmap::{Heatmap, Heatmaps};
use crate::render::page::{Figure, Picture};
use crate::spec::GENERAL;
use crate::store::Payload;
use crate::{ArmId, DataTable, Error, Page, SetId, Study};

pub(super) use crate::job::Closeness;

/// Documents of a corpus, at most (Appendix D).
const SAMPLE: u64 = 10_000;

/// Figures 2 and 7: similarity of mixes and fine-tuning sets, and each mix's proximity advantage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Similarities {
    /// Mixes with sets.
    Figure2,
    /// All with all.
    Figure7,
}

impl Question for Similarities {
    fn name(&self) -> &str {
        match self {
            Self::Figure2 => "figure2",
            Self::Figure7 => "figure7",
        }
    }

    fn trains(&self) -> bool {
        false
    }

    fn needs(&self, graph: &mut Graph<'_>) -> Result<(), Error> {
        job(graph);
        Ok(())
    }

    fn answer(&self, graph: &mut Graph<'_>) -> Result<Page, Error> {
        let study = graph.study();
        let closeness = closeness(graph)?;
        let (mixes, all) = (study.arms().count(), closeness.controlled.rows.len());
        let shown = Shown { study, closeness: &closeness };
        match self {
            Self::Figure2 => shown.page(
                "figure2",
                "Figure 2: similarity of pretraining and midtraining mixes with fine-tuning sets",
                (0..mixes, mixes..all),
                ("mix", "fine-tuning set"),
            ),
            Self::Figure7 => shown.page(
                "figure7",
                "Figure 7: similarity of pretraining mixes, midtraining mixes and fine-tuning sets",
                (0..all, 0..all),
                ("data set", "data set"),
            ),
        }
    }

    fn on_stated(&self, _: &Study, _: &crate::Plan) -> Result<Page, Error> {
        let reason = "preset = paper holds token counts alone: a similarity needs the data (--data)".to_owned();
        Err(Error::Usage { reason })
    }
}

/// Adds the comparison of a study's training text: at most 10 000 documents of each role, drawn without replacement.
pub(super) fn job(graph: &mut Graph<'_>) -> job::Proximity {
    let study = graph.study();
    let mut roles = vec![GENERAL.to_owned()];
    let mixtures: Vec<Vec<(String, f64)>> = study.arms().map(|arm| mixture(study, arm)).collect();
    let sources = mixtures.iter().flatten().map(|(role, _)| role.clone());
    for role in sources.chain(study.sets().map(|set| study[set].role.clone())) {
        if !roles.contains(&role) {
            roles.push(role);
        }
    }
    let place = |role: &str| roles.iter().position(|r| r == role).unwrap_or_default();
    let corpus = |role: &String| {
        let seed = study.seed("documents for proximity", place(role) as u64);
        (role.clone(), graph.data().role(role).train.clone(), seed)
    };
    let named = study.arms().zip(&mixtures).map(|(arm, parts)| {
        (study[arm].name().to_owned(), parts.iter().map(|(role, weight)| (place(role), *weight)).collect())
    });
    let job = job::Proximity {
        vocabulary: study.spec().model.vocab_size,
        corpora: roles.iter().map(corpus).collect(),
        sample: SAMPLE,
        mixtures: named.collect(),
        targets: study.sets().map(|set| (study[set].name.clone(), place(&study[set].role))).collect(),
        seed: study.seed("bootstrap of proximity", 0),
    };
    graph.add(job.clone(), Payload::Result);
    job
}

/// Its result.
pub(super) fn closeness(graph: &mut Graph<'_>) -> Result<Closeness, Error> {
    let job = job(graph);
    graph.outcome(&job)?.map_err(|failure| Error::Failed { failures: vec![failure] })
}

/// PA of an arm towards a set.
pub(super) fn advantage<'c>(study: &Study, closeness: &'c Closeness, arm: ArmId, set: SetId) -> &'c Advantage {
    &closeness.advantages[arm.place() * study.sets().count() + set.place()]
}

/// A part of a matrix.
fn part(
    matrix: &SimilarityMatrix,
    rows: &std::ops::Range<usize>,
    columns: &std::ops::Range<usize>,
) -> SimilarityMatrix {
    let cells = matrix.cells[rows.clone()].iter().map(|row| row[columns.clone()].to_vec()).collect();
    let inside = |(i, j, warning): &(usize, usize, metrics_proximity::Warning)| {
        (rows.contains(i) && columns.contains(j)).then(|| (i - rows.start, j - columns.start, *warning))
    };
    SimilarityMatrix {
        rows: matrix.rows[rows.clone()].to_vec(),
        columns: matrix.columns[columns.clone()].to_vec(),
        cells,
        warnings: matrix.warnings.iter().filter_map(inside).collect(),
    }
}

type Ranges = (std::ops::Range<usize>, std::ops::Range<usize>);

struct Shown<'a> {
    study: &'a Study,
    closeness: &'a Closeness,
}

impl Shown<'_> {
    /// The two named variants: their names, what they are, and what was found.
    fn variants(&self) -> [(&'static str, String, &SimilarityMatrix); 2] {
        let controlled = format!("every side at {} tokens", self.closeness.budget);
        [
            ("controlled", controlled, &self.closeness.controlled),
            ("paper", "vocabularies as observed".to_owned(), &self.closeness.paper),
        ]
    }

    fn corpora_table(&self) -> DataTable {
        let mut table = DataTable::new("corpora", "What was counted", &["role", "documents", "tokens", "types"]);
        for c in &self.closeness.corpora {
            table.rows.push(vec![c.role.clone(), c.documents.to_string(), c.tokens.to_string(), c.types.to_string()]);
        }
        table
    }

    fn advantage_table(&self) -> DataTable {
        let title = format!(
            "Proximity advantage PA(M→T) = prox(M, T) − prox(C4, T) (Eq. 6), every side at {} tokens; 95 % intervals over \
             documents",
            self.closeness.budget
        );
        let header = ["dataset", "mix", "PA", "low", "high", "noise_floor", "PA_paper", "KL_reduction", "closest"];
        let mut table = DataTable::new("proximity_advantage", &title, &header);
        let (study, paper) = (self.study, &self.closeness.advantages_paper);
        let (arms, sets) = (study.arms().count(), study.sets().count());
        for (set, name) in study.sets().map(|set| (set.place(), study[set].name.clone())) {
            let of = |arm: usize| &self.closeness.advantages[arm * sets + set];
            let best = (0..arms).max_by(|a, b| of(*a).value.total_cmp(&of(*b).value));
            for (arm, mix) in study.arms().map(|arm| (arm.place(), study[arm].name())) {
                let a = of(arm);
                let [low, high] = ends(a.interval, 4);
                table.rows.push(vec![
                    name.clone(),
                    mix.to_owned(),
                    signed(a.value, 4),
                    low,
                    high,
                    number(a.noise_floor.unwrap_or(f64::NAN), 4),
                    signed(paper[arm * sets + set].value, 4),
                    signed(a.kl_reduction, 3),
                    if best == Some(arm) { "yes" } else { "" }.to_owned(),
                ]);
            }
            if let Some(best) = study.arms().find(|arm| Some(arm.place()) == best) {
                table.notes.push(format!("closest to {name}: {}", study[best].name()));
            }
        }
        table.notes.push(
            "noise_floor: what |PA| reaches in 95 % of random halvings of the general text, where nothing is mixed in. \
             PA_paper: vocabularies as observed. KL_reduction: KL(T‖C4) − KL(T‖M) in nats (Xie et al. 2023), with 1 % of the \
             uniform distribution mixed in."
                .to_owned(),
        );
        table
    }

    /// The matrix under both variants, as a figure and a table of all similarities.
    fn page(
        &self,
        name: &str,
        title: &str,
        (rows, columns): Ranges,
        (row_axis, column_axis): (&str, &str),
    ) -> Result<Page, Error> {
        let header =
            ["variant", "row", "column", "combined", "cosine", "jaccard", "js_similarity", "overlap", "shared_mass"];
        let mut data = DataTable::new(name, title, &header);
        let mut panels = Vec::new();
        let mut warnings = Vec::new();
        for (variant, what, matrix) in self.variants() {
            let matrix = part(matrix, &rows, &columns);
            for (row, cells) in matrix.rows.iter().zip(&matrix.cells) {
                for (column, s) in matrix.columns.iter().zip(cells) {
                    let values = [s.combined, s.cosine, s.jaccard, s.js(JsForm::Divergence), s.overlap, s.shared_mass];
                    let labels = [variant.to_owned(), row.clone(), column.clone()];
                    data.rows.push(labels.into_iter().chain(values.map(|v| number(v, 6))).collect());
                }
            }
            if let Some((row, column, warning)) = matrix.warnings.first() {
                warnings.push(format!(
                    "{variant} variant, {} cells: {} and {}: {warning}",
                    matrix.warnings.len(),
                    matrix.rows[*row],
                    matrix.columns[*column]
                ));
            }
            panels.push(Heatmap {
                title: format!("{variant}: {what}"),
                row_axis: row_axis.to_owned(),
                column_axis: column_axis.to_owned(),
                values: matrix.values(|s| s.combined),
                rows: matrix.rows,
                columns: matrix.columns,
            });
        }
        let values = panels.iter().flat_map(|p| p.values.iter().flatten()).copied();
        let low = values.fold(1.0, f64::min);
        let picture = Heatmaps {
            title: title.to_owned(),
            subtitle:
                "combined = 0.4 · cosine + 0.3 · Jaccard + 0.3 · (1 − JSD in bits) of token distributions; mixes with \
                       their share of C4"
                    .to_owned(),
            panels,
            across: 2,
            scale: ((low * 20.0).floor() / 20.0, 1.0),
            measure: "similarity".to_owned(),
        };
        let figure = Figure { name: name.to_owned(), data: data.clone(), picture: Picture::Heatmaps(picture) };
        Ok(Page {
            title: title.to_owned(),
            tables: vec![
                self.matrix_table(name, title, &part(&self.closeness.controlled, &rows, &columns)),
                self.advantage_table(),
                self.corpora_table(),
            ],
            figures: vec![figure],
            notes: warnings,
            ..Page::default()
        })
    }

    /// The controlled variant's combined score, as a matrix to read.
    fn matrix_table(&self, name: &str, title: &str, matrix: &SimilarityMatrix) -> DataTable {
        let labels: Vec<&str> = std::iter::once("").chain(matrix.columns.iter().map(String::as_str)).collect();
        let title = format!("{title}; every side at {} tokens", self.closeness.budget);
        let mut table = DataTable::new(name, &title, &labels);
        for (label, values) in matrix.rows.iter().zip(matrix.values(|s| s.combined)) {
            table.rows.push(std::iter::once(label.clone()).chain(values.iter().map(|v| number(*v, 3))).collect());
        }
        table
    }
}
