//! How representations move: CKA between the states of a study (Section 7; Figures 6 and 9 to 13).

use metrics_cka::{Cell, Matrix, Treatment};

use super::{Question, number};
use crate::graph::{GROUPS, Graph, Rate};
use crate::job::ProbeResult;
use crate::render::heatmap::{Heatmap, Heatmaps};
use crate::render::page::{Figure, Picture};
use crate::{ArmId, DataTable, Error, Page, ProbeId, SetId, Study};

/// Which of the four states: base, midtrained, base fine-tuned, midtrained fine-tuned.
const PAIRS: [(usize, usize); 6] = [(0, 2), (1, 3), (2, 3), (0, 1), (0, 3), (1, 2)];

/// CKA between all layers of four states — the control, an arm, and both fine-tuned on a set — on a probe. Of several seeds
/// the first are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Representations<'a> {
    /// The figure's name, such as `figure6`.
    pub figure: &'a str,
    /// The midtrained arm.
    pub arm: &'a str,
    /// The set that both are fine-tuned on.
    pub set: &'a str,
    /// The probe.
    pub probe: &'a str,
}

impl Representations<'_> {
    fn places(&self, study: &Study) -> Result<(ArmId, SetId, ProbeId), Error> {
        Ok((study.arm_named(self.arm)?, study.set_named(self.set)?, study.probe_named(self.probe)?))
    }
}

impl Question for Representations<'_> {
    fn name(&self) -> &str {
        self.figure
    }

    fn check(&self, study: &Study) -> Result<(), Error> {
        self.places(study).map(|_| ())
    }

    fn needs(&self, graph: &mut Graph<'_>) -> Result<(), Error> {
        let (arm, set, probe) = self.places(graph.study())?;
        graph.probe(arm, set, probe).map(|_| ())
    }

    fn answer(&self, graph: &mut Graph<'_>) -> Result<Page, Error> {
        let Self { figure, arm: arm_name, set: set_name, probe: probe_name } = self;
        let (arm, set, probe) = self.places(graph.study())?;
        let study = graph.study();
        let title = format!(
            "Figure {} ({}): CKA between model states, probed with {probe_name}",
            figure.trim_start_matches("figure"),
            study.spec().model_name
        );
        let outcome = match graph.probe(arm, set, probe)? {
            Some(job) => graph.outcome(&job)?,
            None => match graph.rate(arm, set)? {
                Rate::Failed(failure) => Err(failure),
                _ => return Err(Error::field("figure", figure, "has a learning rate that is not chosen yet")),
            },
        };
        let result = match outcome {
            Ok(result) => result,
            Err(failure) => return Ok(Page { title, notes: vec![format!("failed: {failure}")], ..Page::default() }),
        };
        let control = study[study.control()].name();
        let titles = Titles {
            figure: (*figure).to_owned(),
            title,
            short: [
                "base".into(),
                "midtrained".into(),
                format!("base + {set_name}"),
                format!("midtrained + {set_name}"),
            ],
            note: format!(
                "base: {control}; midtrained: {arm_name}; + {set_name}: fine-tuned on it. {} documents, {} tokens of \
                 {probe_name}; 95 % intervals by leaving out one of {GROUPS} groups of documents at a time; pretraining \
                 seed 0, fine-tuning seed 0.",
                result.documents, result.tokens
            ),
        };
        page(&result, titles)
    }
}

struct Titles {
    figure: String,
    title: String,
    short: [String; 4],
    note: String,
}

/// The comparison of two states under a treatment.
fn matrix(result: &ProbeResult, pair: (usize, usize), treatment: usize) -> Option<&Matrix> {
    let of = result.comparisons.iter().find(|c| (c.left, c.right) == pair)?;
    Some(&of.report.results.get(treatment)?.matrix)
}

fn page(result: &ProbeResult, titles: Titles) -> Result<Page, Error> {
    let treatments: Vec<Treatment> =
        result.comparisons.first().map_or_else(Vec::new, |c| c.report.results.iter().map(|r| r.treatment).collect());
    let mut figures = Vec::new();
    for (index, treatment) in treatments.iter().enumerate() {
        let (ending, what) = match treatment {
            Treatment::Raw => ("", "raw features"),
            Treatment::Standardised => ("-standardised", "standardised features"),
            _ => ("-without-massive", "without dimensions of more than 100 x the median variance"),
        };
        let panel = |(left, right): &(usize, usize)| {
            let m = matrix(result, (*left, *right), index)?;
            Some(Heatmap {
                title: format!("{} × {}", titles.short[*left], titles.short[*right]),
                row_axis: format!("layers of {}", titles.short[*left]),
                column_axis: format!("layers of {}", titles.short[*right]),
                rows: m.rows.clone(),
                columns: m.columns.clone(),
                values: m.debiased.iter().map(|row| row.iter().map(|c| c.value).collect()).collect(),
            })
        };
        let picture = Heatmaps {
            title: titles.title.clone(),
            subtitle: format!("debiased linear CKA, {what}; {} tokens", result.tokens),
            panels: PAIRS.iter().filter_map(panel).collect(),
            across: 3,
            scale: (0.0, 1.0),
            measure: "CKA".to_owned(),
        };
        let name = format!("{}{ending}", titles.figure);
        let data = cells(&name, result, &titles, index);
        figures.push(Figure { name, data, picture: Picture::Heatmaps(picture) });
    }
    Ok(Page {
        title: titles.title.clone(),
        tables: vec![shifts(result, &titles, &treatments)],
        figures,
        notes: vec![titles.note],
        ..Page::default()
    })
}

/// Every cell of every pair.
fn cells(name: &str, result: &ProbeResult, titles: &Titles, treatment: usize) -> DataTable {
    let header = ["left", "right", "left_layer", "right_layer", "debiased", "low", "high", "biased", "reason"];
    let mut table = DataTable::new(name, &titles.title, &header);
    for (left, right) in PAIRS {
        let Some(m) = matrix(result, (left, right), treatment) else { continue };
        for (i, row) in m.rows.iter().enumerate() {
            for (j, column) in m.columns.iter().enumerate() {
                let (d, b) = (&m.debiased[i][j], &m.biased[i][j]);
                let [low, high] = plain_ends(d);
                table.rows.push(vec![
                    titles.short[left].clone(),
                    titles.short[right].clone(),
                    row.clone(),
                    column.clone(),
                    number(d.value, 6),
                    low,
                    high,
                    number(b.value, 6),
                    d.reason.map_or_else(String::new, |r| r.to_string()),
                ]);
            }
        }
    }
    table
}

fn plain_ends(cell: &Cell) -> [String; 2] {
    let end = |pick: fn((f64, f64)) -> f64| number(cell.interval.map_or(f64::NAN, pick), 4);
    [end(|i| i.0), end(|i| i.1)]
}

/// Finding 5: how similar each layer stays to itself in fine-tuning, with and without midtraining.
fn shifts(result: &ProbeResult, titles: &Titles, treatments: &[Treatment]) -> DataTable {
    let title = format!("{}: each layer before and after fine-tuning (1: it did not move)", titles.title);
    let header = ["features", "layer", "base", "low", "high", "midtrained", "low", "high", "left_out"];
    let mut table = DataTable::new(&format!("{}_shift", titles.figure), &title, &header);
    for (index, treatment) in treatments.iter().enumerate() {
        let (Some(base), Some(mid)) = (matrix(result, (0, 2), index), matrix(result, (1, 3), index)) else { continue };
        let treated = result.comparisons.iter().find(|c| (c.left, c.right) == (0, 2));
        for (i, layer) in base.rows.iter().enumerate() {
            let (b, m) = (&base.debiased[i][i], &mid.debiased[i][i]);
            let left_out = treated.map_or(0, |c| c.report.results[index].left_out_left[i]);
            let mut row = vec![treatment.to_string(), layer.clone(), number(b.value, 4)];
            row.extend(plain_ends(b));
            row.push(number(m.value, 4));
            row.extend(plain_ends(m));
            row.push(left_out.to_string());
            table.rows.push(row);
        }
    }
    table.notes.push("left_out: dimensions of the base model's layer that the treatment leaves out.".to_owned());
    table
}
