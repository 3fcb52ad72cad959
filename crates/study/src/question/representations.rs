//! How representations move: CKA between the states of a study (Section 7; Figures 6 and 9 to 13).

use metrics_cka::{Cell, Matrix, Treatment};
use report::{Column, Figure, Format, Heatmap, Heatmaps, Page, Table};

use super::Question;
use crate::graph::{GROUPS, Graph, Rate};
use crate::job::ProbeResult;
use crate::protocol::{Arm, Probe, SftSet};
use crate::{ArmId, Error, ProbeId, SetId, Study};

/// Which of the four states: base, midtrained, base fine-tuned, midtrained fine-tuned.
const PAIRS: [(usize, usize); 6] = [(0, 2), (1, 3), (2, 3), (0, 1), (0, 3), (1, 2)];

/// CKA between all layers of four states — the control, an arm, and both fine-tuned on a set — on a probe. Of several seeds
/// the first are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Representations<'a> {
    /// The midtrained arm.
    pub arm: &'a str,
    /// The set that both are fine-tuned on.
    pub set: &'a str,
    /// The probe.
    pub probe: &'a str,
}

impl<'a> Representations<'a> {
    /// Of an arm, a set and a probe of a protocol.
    pub const fn of(arm: Arm<'a>, set: SftSet<'a>, probe: Probe<'a>) -> Self {
        Self { arm: arm.name, set: set.name, probe: probe.name }
    }
}

impl Representations<'_> {
    fn places(&self, study: &Study) -> Result<(ArmId, SetId, ProbeId), Error> {
        Ok((study.arm_named(self.arm)?, study.set_named(self.set)?, study.probe_named(self.probe)?))
    }
}

impl Question for Representations<'_> {
    fn name(&self) -> &str {
        "figure6"
    }

    fn check(&self, study: &Study) -> Result<(), Error> {
        self.places(study).map(|_| ())
    }

    fn needs(&self, graph: &mut Graph<'_>) -> Result<(), Error> {
        let (arm, set, probe) = self.places(graph.study())?;
        graph.probe(arm, set, probe).map(|_| ())
    }

    fn answer(&self, name: &str, graph: &mut Graph<'_>) -> Result<Page, Error> {
        let (arm, set, probe) = self.places(graph.study())?;
        let study = graph.study();
        let outcome = match graph.probe(arm, set, probe)? {
            Some(job) => graph.outcome(&job)?,
            None => match graph.rate(arm, set)? {
                Rate::Failed(failure) => Err(failure),
                _ => return Err(Error::field("figure", name, "has a learning rate that is not chosen yet")),
            },
        };
        let title = format!("{} ({}): CKA between model states", super::heading(name), study.spec().model_name);
        Ok(match outcome {
            Ok(result) => Shown { name, control: study[study.control()].name(), of: self, result: &result }.page(title),
            Err(failure) => {
                let mut page = Page::new(&title);
                page.notes.push(format!("failed: {failure}"));
                page
            }
        })
    }
}

struct Shown<'a> {
    name: &'a str,
    control: &'a str,
    of: &'a Representations<'a>,
    result: &'a ProbeResult,
}

/// How a layer stays itself in fine-tuning, without and with midtraining.
struct Shift<'a> {
    treatment: Treatment,
    layer: &'a str,
    base: &'a Cell,
    midtrained: &'a Cell,
    left_out: u64,
}

impl Shown<'_> {
    fn page(&self, title: String) -> Page {
        let treatments: Vec<Treatment> = self
            .result
            .comparisons
            .first()
            .map_or_else(Vec::new, |c| c.report.results.iter().map(|r| r.treatment).collect());
        let shifts = self.shifts(&treatments);
        let Representations { arm, set, probe } = self.of;
        let mut page = Page::new(&title);
        page.asked = format!(
            "Does fine-tuning on {set} move the representations of a model that was midtrained on {arm} less than those of \
             the base model? Probed with {probe}."
        );
        page.found = moved_most(&shifts);
        page.tables = vec![self.shift_table(&shifts)];
        page.figures = treatments.iter().enumerate().map(|(i, t)| self.figure(i, *t)).collect();
        page.notes = vec![format!(
            "base: {}; midtrained: {arm}; + {set}: fine-tuned on it. {} documents, {} tokens of {probe}; 95 % intervals by \
             leaving out one of {GROUPS} groups of documents at a time; pretraining seed 0, fine-tuning seed 0.",
            self.control, self.result.documents, self.result.tokens
        )];
        page
    }

    /// The four states' names.
    fn states(&self) -> [String; 4] {
        let set = self.of.set;
        ["base".into(), "midtrained".into(), format!("base + {set}"), format!("midtrained + {set}")]
    }

    /// The comparison of two states under a treatment.
    fn matrix(&self, pair: (usize, usize), treatment: usize) -> Option<&Matrix> {
        let of = self.result.comparisons.iter().find(|c| (c.left, c.right) == pair)?;
        Some(&of.report.results.get(treatment)?.matrix)
    }

    fn figure(&self, index: usize, treatment: Treatment) -> Figure {
        let ending = match treatment {
            Treatment::Raw => String::new(),
            other => format!("-{}", short(other)),
        };
        let what = format!("features {treatment}");
        let states = self.states();
        let panel = |(left, right): &(usize, usize)| {
            let m = self.matrix((*left, *right), index)?;
            Some(Heatmap {
                title: format!("{} × {}", states[*left], states[*right]),
                row_axis: format!("layers of {}", states[*left]),
                column_axis: format!("layers of {}", states[*right]),
                rows: m.rows.clone(),
                columns: m.columns.clone(),
                values: m.debiased.iter().map(|row| row.iter().map(value).collect()).collect(),
            })
        };
        let picture = Heatmaps {
            panels: PAIRS.iter().filter_map(panel).collect(),
            across: 3,
            scale: (0.0, 1.0),
            measure: "CKA".to_owned(),
        };
        Figure::new(self.cells(&format!("{}{ending}", self.name), &what, index), picture)
            .subtitle([format!("{} tokens of {}", self.result.tokens, self.of.probe)])
    }

    /// Every cell of every pair.
    fn cells(&self, name: &str, what: &str, treatment: usize) -> Table {
        let states = self.states();
        let mut cells: Vec<([&str; 4], &Cell, &Cell)> = Vec::new();
        for (left, right) in PAIRS {
            let Some(m) = self.matrix((left, right), treatment) else { continue };
            for (i, row) in m.rows.iter().enumerate() {
                for (j, column) in m.columns.iter().enumerate() {
                    let names = [states[left].as_str(), states[right].as_str(), row.as_str(), column.as_str()];
                    cells.push((names, &m.debiased[i][j], &m.biased[i][j]));
                }
            }
        }
        let words = |name: &str, place: usize| Column::text(name, cells.iter().map(move |c| c.0[place]));
        let reason = |c: &([&str; 4], &Cell, &Cell)| c.1.reason.map_or_else(String::new, |r| r.to_string());
        Table::new(name, &format!("Debiased linear CKA between layers of model states, {what}"))
            .with(words("left", 0))
            .with(words("right", 1))
            .with(words("left_layer", 2))
            .with(words("right_layer", 3))
            .with(Column::number("debiased", Format::Fixed(4), cells.iter().map(|c| value(c.1))))
            .with(Column::interval("debiased_ci", Format::Fixed(4), cells.iter().map(|c| c.1.interval)))
            .with(Column::number("biased", Format::Fixed(4), cells.iter().map(|c| value(c.2))))
            .with(Column::text("reason", cells.iter().map(reason)))
    }

    /// Finding 5: how similar each layer stays to itself in fine-tuning, with and without midtraining.
    fn shifts(&self, treatments: &[Treatment]) -> Vec<Shift<'_>> {
        let mut shifts = Vec::new();
        for (index, treatment) in treatments.iter().enumerate() {
            let (Some(base), Some(mid)) = (self.matrix((0, 2), index), self.matrix((1, 3), index)) else { continue };
            let of_base = self.result.comparisons.iter().find(|c| (c.left, c.right) == (0, 2));
            for (i, layer) in base.rows.iter().enumerate() {
                let left_out = of_base.map_or(0, |c| c.report.results[index].left_out_left[i]);
                shifts.push(Shift {
                    treatment: *treatment,
                    layer,
                    base: &base.debiased[i][i],
                    midtrained: &mid.debiased[i][i],
                    left_out: left_out as u64,
                });
            }
        }
        shifts
    }

    fn shift_table(&self, shifts: &[Shift<'_>]) -> Table {
        let four = Format::Fixed(4);
        Table::new(
            &format!("{}_shift", self.name),
            "CKA of each layer before and after fine-tuning (1: it did not move), without and with midtraining",
        )
        .with(Column::text("features", shifts.iter().map(|s| short(s.treatment))).meaning(
            "raw; standardised to unit variance; without-massive: without dimensions of more than 100 × the median variance",
        ))
        .with(Column::text("layer", shifts.iter().map(|s| s.layer)))
        .with(Column::number("base", four, shifts.iter().map(|s| value(s.base))))
        .with(Column::interval("base_ci", four, shifts.iter().map(|s| s.base.interval)).heading("95 % interval"))
        .with(Column::number("midtrained", four, shifts.iter().map(|s| value(s.midtrained))))
        .with(
            Column::interval("midtrained_ci", four, shifts.iter().map(|s| s.midtrained.interval))
                .heading("95 % interval"),
        )
        .with(
            Column::count("left_out", shifts.iter().map(|s| s.left_out))
                .documents_only()
                .meaning("dimensions of the base model's layer that the treatment leaves out"),
        )
        .grouped()
    }
}

/// A treatment in a word or two.
fn short(treatment: Treatment) -> &'static str {
    match treatment {
        Treatment::Raw => "raw",
        Treatment::Standardised => "standardised",
        _ => "without-massive",
    }
}

/// A cell's value; none where there is a reason for it.
fn value(cell: &Cell) -> Option<f64> {
    Some(cell.value).filter(|v| !v.is_nan())
}

/// The layer that fine-tuning moved most, without and with midtraining.
fn moved_most(shifts: &[Shift<'_>]) -> Vec<String> {
    let raw = shifts.iter().filter(|s| s.treatment == Treatment::Raw);
    let least = raw.filter(|s| value(s.base).is_some()).min_by(|a, b| a.base.value.total_cmp(&b.base.value));
    let Some(shift) = least else { return Vec::new() };
    let told = |cell: &Cell| {
        let interval =
            cell.interval.map_or_else(String::new, |(low, high)| format!(" (95 % interval {low:.3} to {high:.3})"));
        value(cell).map_or_else(|| "no value".to_owned(), |v| format!("{v:.3}{interval}"))
    };
    vec![format!(
        "Fine-tuning moved {} of the base model most: its CKA with itself before is {}; with midtraining it is {}. One \
         pretrained and one fine-tuned model each: this speaks of these models.",
        shift.layer,
        told(shift.base),
        told(shift.midtrained)
    )]
}
