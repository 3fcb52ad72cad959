//! How close the mixes and the fine-tuning sets are (Appendix D; Figures 2 and 7).

use metrics_proximity::{Advantage, Draws, Jackknifed, JsForm, Similarity, SimilarityMatrix, SimilarityOptions};
use report::{Column, Figure, Format, Heatmap, Heatmaps, Page, Table};

use super::Question;
use super::comparison::{ALONE, LEVEL, POWER, median};
use crate::graph::Graph;
use crate::job;
use crate::spec::GENERAL;
use crate::store::Payload;
use crate::{ArmId, Error, SetId, Study};

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

    fn answer(&self, name: &str, graph: &mut Graph<'_>) -> Result<Page, Error> {
        let closeness = closeness(graph)?;
        let (mixes, all) = (graph.study().arms().count(), closeness.controlled.rows.len());
        let shown = Shown { study: graph.study(), closeness: &closeness, name };
        Ok(match self {
            Self::Figure2 => shown.page(
                "Similarity of pretraining and midtraining mixes with fine-tuning sets",
                (0..mixes, mixes..all),
                ("mix", "fine-tuning set"),
            ),
            Self::Figure7 => shown.page(
                "Similarity of pretraining mixes, midtraining mixes and fine-tuning sets",
                (0..all, 0..all),
                ("data set", "data set"),
            ),
        })
    }

    fn on_stated(&self, _: &str, _: &Study, _: &crate::Plan) -> Result<Page, Error> {
        let reason = "the study holds token counts alone (data.stated, as in --preset paper): a similarity needs the data (--data)".to_owned();
        Err(Error::Usage { reason })
    }
}

/// Adds the comparison of a study's training text: at most 10 000 documents of each role, drawn without replacement.
pub(super) fn job(graph: &mut Graph<'_>) -> job::Proximity {
    let study = graph.study();
    let mut roles = vec![GENERAL.to_owned()];
    // What an arm is exposed to from the start of its first phase to the end, however many phases there are.
    let exposure = |arm: ArmId| {
        let shares = study[arm].timeline().exposure(study.spec().pretrain.batch);
        shares.into_iter().map(|(role, share)| (role.to_owned(), share)).collect()
    };
    let mixtures: Vec<Vec<(String, f64)>> = study.arms().map(exposure).collect();
    let sources = mixtures.iter().flatten().map(|(role, _)| role.clone());
    for role in sources.chain(study.sets().map(|set| study[set].role.clone())) {
        if !roles.contains(&role) {
            roles.push(role);
        }
    }
    let place = |role: &str| roles.iter().position(|r| r == role).unwrap_or_default();
    let corpus = |role: &String| {
        // By name: another arm changes no other corpus's documents.
        let seed = study.seed(&format!("documents of {role} for proximity"), 0);
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
        options: SimilarityOptions::default(),
        draws: Draws { seed: study.seed("draws of proximity", 0), ..Draws::default() },
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
pub(super) fn advantage(closeness: &Closeness, arm: ArmId, set: SetId) -> &Advantage {
    &closeness.advantages[arm.place()][set.place()]
}

/// A part of a matrix.
fn part(
    matrix: &SimilarityMatrix,
    rows: &std::ops::Range<usize>,
    columns: &std::ops::Range<usize>,
) -> SimilarityMatrix {
    let cells = matrix.cells[rows.clone()].iter().map(|row| row[columns.clone()].to_vec()).collect();
    let intervals = matrix.intervals.as_ref();
    let intervals =
        intervals.map(|all| all[rows.clone()].iter().map(|row| row[columns.clone()].to_vec()).collect::<Vec<_>>());
    let inside = |(i, j, warning): &(usize, usize, metrics_proximity::Warning)| {
        (rows.contains(i) && columns.contains(j)).then(|| (i - rows.start, j - columns.start, *warning))
    };
    SimilarityMatrix {
        rows: matrix.rows[rows.clone()].to_vec(),
        columns: matrix.columns[columns.clone()].to_vec(),
        cells,
        intervals,
        warnings: matrix.warnings.iter().filter_map(inside).collect(),
    }
}

type Ranges = (std::ops::Range<usize>, std::ops::Range<usize>);

struct Shown<'a> {
    study: &'a Study,
    closeness: &'a Closeness,
    name: &'a str,
}

/// A cell of the matrix under one of the two named variants.
struct Cell<'a> {
    variant: &'static str,
    row: &'a str,
    column: &'a str,
    similarity: &'a Similarity,
    /// Ends of the combined score's interval.
    interval: Option<(f64, f64)>,
}

impl Shown<'_> {
    /// Both variants, as a figure and tables.
    fn page(&self, title: &str, (rows, columns): Ranges, axes: (&str, &str)) -> Page {
        let (controlled, paper) = (&self.closeness.controlled, &self.closeness.observed.matrix);
        let variants = [("controlled", part(controlled, &rows, &columns)), ("paper", part(paper, &rows, &columns))];
        let mut page = Page::new(&format!("{}: {title}", super::heading(self.name)));
        page.asked = "How close is each mix to each fine-tuning set, and closer than general text alone?".to_owned();
        page.found = self.closest();
        page.tables = vec![self.advantages(), self.matrix(title, &variants[0].1), self.corpora()];
        page.figures = vec![self.figure(title, &variants, axes)];
        page.notes = vec![self.how()];
        page.notes.extend(self.how_sure());
        page.notes.extend(variants.iter().filter_map(|(variant, matrix)| warning(variant, matrix)));
        page
    }

    /// How the controlled variant came about, and what its intervals speak of.
    fn how(&self) -> String {
        let basis = &self.closeness.basis;
        let intervals = match basis.groups {
            Some(groups) => format!(
                "95 % intervals are over documents of all corpora involved (the draws are repeated without each of {groups} groups \
                 of documents): they say what other documents of the same corpora would give."
            ),
            None => "There are no intervals: a corpus has too few documents for groups of them.".to_owned(),
        };
        format!(
            "Of each corpus at most {SAMPLE} documents are read, drawn by the study's seed. Controlled variant: means over {} seeded draws \
             of whole documents, {} tokens on every side, the two sides from different halves of each corpus, so that at this number \
             of tokens sizes change nothing but how sure a number is. The number is what both halves of {} hold: with a smaller corpus \
             in the study all similarities are lower. A mix has its sources' shares of all tokens from its first phase to the end. \
             {intervals}",
            basis.draws, basis.budget, basis.smallest
        )
    }

    /// How far PA may be off, and what it can show.
    fn how_sure(&self) -> Vec<String> {
        let all = || self.closeness.advantages.iter().flatten();
        let biases: Vec<(f64, f64)> = all().filter_map(|a| a.bias).filter(|(_, error)| *error > 0.0).collect();
        let beyond = biases.iter().filter(|(bias, error)| bias.abs() > 2.0 * error).count();
        let largest = biases.iter().copied().max_by(|a, b| a.0.abs().total_cmp(&b.0.abs()));
        let bias = largest.map(|(bias, error)| {
            format!(
                "The largest bias that the jackknife estimates of a PA is {bias:+.5} (its own standard error: {error:.5}); {beyond} of {} such \
                 estimates are more than two of their standard errors from 0. They are not taken out.",
                biases.len()
            )
        });
        let detected: Vec<f64> = all().filter_map(|a| detectable(&a.advantage)).collect();
        let smallest = median(&detected).map(|smallest| {
            format!(
                "The smallest PA that these documents show with a chance of 80 % (two-sided 5 %, one comparison) is {smallest:.4} in the \
                 median."
            )
        });
        bias.into_iter().chain(smallest).collect()
    }

    fn unit(&self) -> &'static str {
        self.closeness.basis.groups.map_or("no intervals: too few documents", |_| "documents")
    }

    /// The closest mix of each set, in a sentence with its interval.
    fn closest(&self) -> Vec<String> {
        let line = |set: SetId| {
            let (arm, a) = self.best(set)?;
            if a.advantage.value() == 0.0 {
                let (set, general) = (&self.study[set].name, self.study[self.study.control()].name());
                return Some(format!("No mix is closer to {set} than {general}."));
            }
            let interval = interval(&a.advantage).map_or_else(String::new, |(low, high)| {
                format!(" (95 % interval over documents {low:+.4} to {high:+.4})")
            });
            let others: Vec<&str> = self
                .study
                .arms()
                .filter(|other| *other != arm && self.is_not_told_apart(*other, arm, set))
                .map(|other| self.study[other].name())
                .collect();
            let others = match others.as_slice() {
                [] => String::new(),
                others => format!(" Not distinguishable from it: {}.", others.join(", ")),
            };
            let (set, arm, value) = (&self.study[set].name, self.study[arm].name(), a.advantage.value());
            Some(format!("Closest to {set}: {arm}, with a proximity advantage of {value:+.4}{interval}.{others}"))
        };
        self.study.sets().filter_map(line).collect()
    }

    fn best(&self, set: SetId) -> Option<(ArmId, &Advantage)> {
        let of = |arm| (arm, advantage(self.closeness, arm, set));
        self.study.arms().map(of).max_by(|a, b| a.1.advantage.value().total_cmp(&b.1.advantage.value()))
    }

    /// Whether the difference of two mixes' PA towards a set, on the same documents, has an interval that holds 0, or none.
    fn is_not_told_apart(&self, arm: ArmId, from: ArmId, set: SetId) -> bool {
        let of = |arm| &advantage(self.closeness, arm, set).advantage;
        let interval = of(from).less(of(arm)).ok().and_then(|difference| difference.interval(LEVEL));
        arm == from || interval.is_none_or(|(low, high)| low <= 0.0 && 0.0 <= high)
    }

    fn corpora(&self) -> Table {
        let corpora = || self.closeness.corpora.iter();
        Table::new("corpora", "What was counted")
            .with(Column::text("role", corpora().map(|c| c.role.as_str())))
            .with(Column::count("documents", corpora().map(|c| c.documents)))
            .with(Column::count("tokens", corpora().map(|c| c.tokens)))
            .with(Column::count("types", corpora().map(|c| c.types)).meaning("tokens that occur"))
    }

    fn advantages(&self) -> Table {
        let study = self.study;
        let pairs: Vec<(SetId, ArmId)> = study.sets().flat_map(|set| study.arms().map(move |arm| (set, arm))).collect();
        let of = |(set, arm): &(SetId, ArmId)| advantage(self.closeness, *arm, *set);
        let observed = &self.closeness.observed;
        let number = |name: &str, format, value: &dyn Fn(&(SetId, ArmId)) -> Option<f64>| {
            Column::number(name, format, pairs.iter().map(value))
        };
        let closest = pairs.iter().map(|(set, arm)| self.best(*set).is_some_and(|(best, _)| best == *arm));
        let marked: Vec<bool> = pairs
            .iter()
            .map(|(set, arm)| self.best(*set).is_some_and(|(best, _)| self.is_not_told_apart(*arm, best, *set)))
            .collect();
        let title = format!(
            "Proximity advantage PA(M→T) = prox(M, T) − prox({}, T) (Eq. 6), every side at {} tokens",
            study[study.control()].name(),
            self.closeness.basis.budget
        );
        let (change, score) = (Format::Signed(4), Format::Fixed(4));
        Table::new("proximity_advantage", &title)
            .with(Column::text("dataset", pairs.iter().map(|(set, _)| study[*set].name.as_str())).heading("set"))
            .with(Column::text("mix", pairs.iter().map(|(_, arm)| study[*arm].name())))
            .with(number("PA", change, &|p| Some(of(p).advantage.value())).marked(marked.clone()))
            .with(
                Column::interval("pa_ci", change, pairs.iter().map(|p| interval(&of(p).advantage)))
                    .heading("95 % interval"),
            )
            .with(
                number("bias", Format::Signed(5), &|p| Some(of(p).bias?.0))
                    .documents_only()
                    .meaning("the jackknife's estimate of the bias of PA at this number of tokens; it is not taken out"),
            )
            .with(
                number("bias_error", Format::Fixed(5), &|p| Some(of(p).bias?.1))
                    .heading("its error")
                    .documents_only()
                    .meaning("standard error of that estimate, over the draws"),
            )
            .with(number("prox_mix", score, &|p| Some(of(p).mixture)).documents_only().heading("prox(M, T)"))
            .with(
                number("prox_general", score, &|p| Some(of(p).general))
                    .documents_only()
                    .heading("prox(general, T)")
                    .meaning(
                        "with the general text that the mix has, and more of it where the mix has something else: it differs a \
                         little from mix to mix",
                    ),
            )
            .with(
                number("PA_paper", change, &|(set, arm)| Some(observed.advantages[arm.place()][set.place()]))
                    .documents_only()
                    .meaning("corpora as they are: sizes shift it"),
            )
            .with(
                number("KL_reduction", Format::Signed(3), &|(set, arm)| {
                    Some(observed.kl_reductions[arm.place()][set.place()])
                })
                .documents_only()
                .meaning(
                    "KL(T‖general) − KL(T‖M) in nats (Xie et al. 2023), with 1 % of the uniform distribution mixed in",
                ),
            )
            .with(number("detectable", score, &|p| detectable(&of(p).advantage)).file_only())
            .with(Column::count("closest", closest.map(u64::from)).file_only())
            .with(Column::count("among_closest", marked.iter().map(|m| u64::from(*m))).file_only())
            .with(Column::text("unit", pairs.iter().map(|_| self.unit())).file_only())
            .with(Column::text("family", pairs.iter().map(|_| ALONE)).file_only())
            .grouped()
            .note(match self.closeness.basis.groups {
                Some(_) => {
                    "Intervals are over documents, each at 95 % by itself; where nothing is mixed in, PA is 0 and has none. * or bold: the \
                     closest mix of each set, and all whose difference to it, on the same documents, has a 95 % interval that holds 0."
                }
                None => "There are no intervals, so that nothing is distinguishable: all are marked.",
            })
    }

    /// The controlled variant's combined score, as a matrix to read.
    fn matrix(&self, title: &str, matrix: &SimilarityMatrix) -> Table {
        let title = format!("{title}; every side at {} tokens", self.closeness.basis.budget);
        let labels = Column::text("data_set", matrix.rows.iter().map(String::as_str)).heading("");
        let scores = matrix.values(|s| s.combined);
        matrix.columns.iter().enumerate().fold(Table::new(self.name, &title).with(labels), |table, (j, name)| {
            // A mix and a set may have the same name, and columns must not.
            let mut unique = name.clone();
            while table.columns().iter().any(|c| c.name() == unique) {
                unique.push_str("_2");
            }
            table.with(Column::number(&unique, Format::Fixed(3), scores.iter().map(|row| row[j])).heading(name))
        })
    }

    fn figure(&self, title: &str, variants: &[(&'static str, SimilarityMatrix); 2], axes: (&str, &str)) -> Figure {
        let what = |variant: &str| match variant {
            "controlled" => format!("controlled: every side at {} tokens", self.closeness.basis.budget),
            _ => format!("{variant}: vocabularies as observed"),
        };
        let panel = |(variant, matrix): &(&'static str, SimilarityMatrix)| Heatmap {
            title: what(variant),
            row_axis: axes.0.to_owned(),
            column_axis: axes.1.to_owned(),
            values: matrix.values(|s| s.combined).into_iter().map(|row| row.into_iter().map(Some).collect()).collect(),
            rows: matrix.rows.clone(),
            columns: matrix.columns.clone(),
            marks: Vec::new(),
        };
        let cells: Vec<Cell<'_>> = variants.iter().flat_map(|(variant, matrix)| cells(variant, matrix)).collect();
        let low = cells.iter().map(|c| c.similarity.combined).fold(1.0, f64::min);
        let picture = Heatmaps {
            panels: variants.iter().map(panel).collect(),
            across: 2,
            scale: ((low * 20.0).floor() / 20.0, 1.0),
            measure: "similarity".to_owned(),
            decimals: 2,
            reversed: false,
        };
        let number = |name: &str, value: fn(&Similarity) -> f64| {
            Column::number(name, Format::Fixed(4), cells.iter().map(|c| value(c.similarity)))
        };
        let data = Table::new(self.name, title)
            .with(Column::text("variant", cells.iter().map(|c| c.variant)))
            .with(Column::text("row", cells.iter().map(|c| c.row)))
            .with(Column::text("column", cells.iter().map(|c| c.column)))
            .with(number("combined", |s| s.combined))
            .with(Column::interval("combined_ci", Format::Fixed(4), cells.iter().map(|c| c.interval)))
            .with(number("cosine", |s| s.cosine))
            .with(number("jaccard", |s| s.jaccard))
            .with(number("js_similarity", |s| s.js(JsForm::Divergence)))
            .with(number("overlap", |s| s.overlap))
            .with(number("shared_mass", |s| s.shared_mass))
            .with(Column::text("unit", cells.iter().map(|c| c.interval.map_or("", |_| "documents"))))
            .with(Column::text("family", cells.iter().map(|c| c.interval.map_or("", |_| ALONE))));
        Figure::new(data, picture).subtitle([
            "combined = 0.4 · cosine + 0.3 · Jaccard + 0.3 · (1 − JSD in bits) of token distributions; mixes with their \
             share of general text"
                .to_owned(),
            "controlled: a set with itself is one half of its documents with the other".to_owned(),
        ])
    }
}

fn cells<'a>(variant: &'static str, matrix: &'a SimilarityMatrix) -> impl Iterator<Item = Cell<'a>> {
    matrix.rows.iter().enumerate().flat_map(move |(i, row)| {
        matrix.columns.iter().enumerate().map(move |(j, column)| {
            let interval = matrix.intervals.as_ref().map(|all| (all[i][j].0.combined, all[i][j].1.combined));
            Cell { variant, row, column, similarity: &matrix.cells[i][j], interval }
        })
    })
}

/// The smallest PA that such documents show; none where nothing is mixed in.
fn detectable(advantage: &Jackknifed) -> Option<f64> {
    let error = advantage.standard_error().filter(|error| *error > 0.0)?;
    forgetting_eval::detectable(error, (advantage.groups() - 1) as f64, LEVEL, POWER)
}

/// The interval of a PA; none where nothing is mixed in and it is 0 by definition.
fn interval(advantage: &Jackknifed) -> Option<(f64, f64)> {
    advantage.interval(LEVEL).filter(|_| advantage.standard_error() > Some(0.0))
}

/// What the comparison of very different corpora warns of.
fn warning(variant: &str, matrix: &SimilarityMatrix) -> Option<String> {
    let (row, column, warning) = matrix.warnings.first()?;
    Some(format!(
        "{variant} variant, {} cells: {} and {}: {warning}",
        matrix.warnings.len(),
        matrix.rows[*row],
        matrix.columns[*column]
    ))
}
