//! How representations move: CKA between the states of a study (Section 7; Figures 6 and 9 to 13).

use forgetting_eval::{Nested, Summary};
use metrics_cka::{Cell, Jackknifed, Matrix, Treatment};
use report::{Column, Figure, Format, Heatmap, Heatmaps, Page, Table};

use super::Question;
use super::comparison::{LEVEL, POWER, Unit, unit};
use crate::graph::{BASE_TUNED, Graph, MIDTRAINED_TUNED, Rate};
use crate::job::ProbeResult;
use crate::protocol::{Arm, Probe, SftSet};
use crate::store::Failure;
use crate::{ArmId, Error, ProbeId, SetId, Study};

/// Which of the four states: base, midtrained, base fine-tuned, midtrained fine-tuned.
const PAIRS: [(usize, usize); 6] = [(0, 2), (1, 3), (2, 3), (0, 1), (0, 3), (1, 2)];

/// CKA between all layers of four states — the control, an arm, and both fine-tuned on a set — on a probe. Heatmaps are those
/// of the first seeds; how much each layer changed in fine-tuning is measured with all seeds.
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
        let places = self.places(graph.study())?;
        seeds(graph.study()).try_for_each(|seeds| graph.probe(places, seeds).map(|_| ()))
    }

    fn answer(&self, name: &str, graph: &mut Graph<'_>) -> Result<Page, Error> {
        let places = self.places(graph.study())?;
        let study = graph.study();
        let (mut results, mut failed) = (Vec::new(), Vec::new());
        for seeds in seeds(study) {
            match self.outcome(name, graph, places, seeds)? {
                Ok(result) => results.push((seeds, result)),
                Err(failure) => failed.push(format!("failed: {failure}")),
            }
        }
        failed.dedup();
        let title = format!("{} ({}): CKA between model states", super::heading(name), study.spec().model_name);
        let mut page = Page::new(&title);
        if let Some((_, first)) = results.iter().find(|(seeds, _)| *seeds == (0, 0)) {
            page = Shown { name, study, of: self, first, all: &results }.page(page)?;
        }
        page.notes.extend(failed);
        Ok(page)
    }
}

/// Pretraining and fine-tuning seeds, the first ones first.
fn seeds(study: &Study) -> impl Iterator<Item = (u64, u64)> + use<> {
    let (pretraining, fine_tuning) = (study.spec().pretrain_seeds, study.spec().sft_seeds);
    (0..pretraining).flat_map(move |p| (0..fine_tuning).map(move |s| (p, s)))
}

impl Representations<'_> {
    fn outcome(
        &self,
        name: &str,
        graph: &mut Graph<'_>,
        places: (ArmId, SetId, ProbeId),
        seeds: (u64, u64),
    ) -> Result<Result<ProbeResult, Failure>, Error> {
        match graph.probe(places, seeds)? {
            Some(job) => graph.outcome(&job),
            None => match graph.rate(places.0, places.1)? {
                Rate::Failed(failure) => Ok(Err(failure)),
                _ => Err(Error::field("figure", name, "has a learning rate that is not chosen yet")),
            },
        }
    }
}

/// Fewer groups of documents than this give no interval.
const LEAST_GROUPS: usize = 5;

struct Shown<'a> {
    name: &'a str,
    study: &'a Study,
    of: &'a Representations<'a>,
    /// All pairs of states, of the first seeds.
    first: &'a ProbeResult,
    /// Of all seeds that have a result.
    all: &'a [((u64, u64), ProbeResult)],
}

/// How a layer stays itself in fine-tuning, without and with midtraining: CKA with itself before.
struct Shift<'a> {
    treatment: Treatment,
    layer: &'a str,
    /// Means over seeds.
    base: Jackknifed,
    midtrained: Jackknifed,
    /// Midtrained less base: above 0, midtraining lessened the change.
    difference: Jackknifed,
    /// The same difference over seeds.
    seeds: Summary,
    unit: Unit,
    left_out: u64,
}

/// An interval over documents, where there are enough groups of them.
fn over_documents(value: &Jackknifed, interval: Option<(f64, f64)>) -> Option<(f64, f64)> {
    interval.filter(|_| value.groups() >= LEAST_GROUPS)
}

impl Shift<'_> {
    /// Of the difference, over the study's unit.
    fn interval(&self, level: f64) -> Option<(f64, f64)> {
        match self.unit {
            Unit::Documents => over_documents(&self.difference, self.difference.interval(level)),
            _ => self.seeds.interval(level),
        }
    }

    fn detectable(&self) -> Option<f64> {
        match self.unit {
            Unit::Documents => {
                self.difference.detectable(LEVEL, POWER).filter(|_| self.difference.groups() >= LEAST_GROUPS)
            }
            _ => self.seeds.detectable(LEVEL, POWER),
        }
    }
}

impl Shown<'_> {
    fn page(&self, mut page: Page) -> Result<Page, Error> {
        let treatments: Vec<Treatment> = self
            .first
            .comparisons
            .first()
            .map_or_else(Vec::new, |c| c.report.results.iter().map(|r| r.treatment).collect());
        let shifts = self.shifts(&treatments)?;
        let Representations { arm, set, probe } = self.of;
        page.asked = format!(
            "Does fine-tuning on {set} move the representations of a model that was midtrained on {arm} less than those of \
             the base model? Probed with {probe}."
        );
        page.found = moved_most(&shifts);
        page.found.push(unit(self.study));
        page.tables = vec![self.shift_table(&shifts)];
        page.figures = treatments.iter().enumerate().map(|(i, t)| self.figure(i, *t)).collect();
        let groups = shifts.first().map_or(0, |s| s.difference.groups());
        let over = match groups {
            0..LEAST_GROUPS => "too few for intervals over them".to_owned(),
            groups => format!(
                "intervals over documents leave out one of {groups} groups of them at a time, the same for all states"
            ),
        };
        page.notes = vec![format!(
            "base: {}; midtrained: {arm}; + {set}: fine-tuned on it. {} documents, {} tokens of {probe} ({over}). Heatmaps are those \
             of the first seeds, the table's numbers means over {} pairs of seeds.",
            self.study[self.study.control()].name(),
            self.first.documents,
            self.first.tokens,
            self.all.len()
        )];
        Ok(page)
    }

    /// The four states' names.
    fn states(&self) -> [String; 4] {
        let set = self.of.set;
        ["base".into(), "midtrained".into(), format!("base + {set}"), format!("midtrained + {set}")]
    }

    /// The comparison of two states under a treatment.
    fn matrix(&self, pair: (usize, usize), treatment: usize) -> Option<&Matrix> {
        let of = self.first.comparisons.iter().find(|c| (c.left, c.right) == pair)?;
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
            .subtitle([format!("{} tokens of {}", self.first.tokens, self.of.probe)])
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
            .with(Column::text("unit", cells.iter().map(|c| c.1.interval.map_or("", |_| "documents"))))
            .with(Column::text("family", cells.iter().map(|c| c.1.interval.map_or("", |_| "each interval alone"))))
    }

    /// Finding 5: how similar each layer stays to itself in fine-tuning, with and without midtraining.
    fn shifts(&self, treatments: &[Treatment]) -> Result<Vec<Shift<'_>>, Error> {
        let mut shifts = Vec::new();
        for (index, treatment) in treatments.iter().enumerate() {
            let Some(base) = self.first.comparisons.iter().find(|c| (c.left, c.right) == BASE_TUNED) else { continue };
            let result = &base.report.results[index];
            for (layer, name) in result.matrix.rows.iter().enumerate() {
                let left_out = result.left_out_left[layer] as u64;
                shifts.extend(self.shift(index, *treatment, (layer, name), left_out)?);
            }
        }
        Ok(shifts)
    }

    /// `None` where a value is missing: the heatmaps' table says why.
    fn shift<'s>(
        &'s self,
        index: usize,
        treatment: Treatment,
        (layer, name): (usize, &'s str),
        left_out: u64,
    ) -> Result<Option<Shift<'s>>, Error> {
        let of = |result: &ProbeResult, pair: (usize, usize)| {
            let compared = result.comparisons.iter().find(|c| (c.left, c.right) == pair)?;
            compared.same_layer.get(index)?.get(layer)?.clone()
        };
        let (mut base, mut midtrained) = (Vec::new(), Vec::new());
        let mut by_seed = vec![Vec::new(); self.study.spec().pretrain_seeds as usize];
        for ((pretrain_seed, _), result) in self.all {
            let (Some(b), Some(m)) = (of(result, BASE_TUNED), of(result, MIDTRAINED_TUNED)) else { return Ok(None) };
            by_seed[*pretrain_seed as usize].push(m.value - b.value);
            base.push(b);
            midtrained.push(m);
        }
        let mean = |all: &[Jackknifed]| Jackknifed::mean(all).map_err(metrics_cka::Error::from);
        let (base, midtrained) = (mean(&base)?, mean(&midtrained)?);
        let difference = midtrained.less(&base).map_err(metrics_cka::Error::from)?;
        let (seeds, unit) = (Nested::of(&by_seed).summary, Unit::of(self.study));
        Ok(Some(Shift { treatment, layer: name, base, midtrained, difference, seeds, unit, left_out }))
    }

    fn shift_table(&self, shifts: &[Shift<'_>]) -> Table {
        let (four, change) = (Format::Fixed(4), Format::Signed(4));
        let bounded = |value: fn(&Shift<'_>) -> Jackknifed| {
            shifts.iter().map(move |s| over_documents(&value(s), value(s).bounded_interval(LEVEL)))
        };
        let unit = Unit::of(self.study).name();
        let family = |s: &Shift<'_>| format!("{} layers, {} features", layers(shifts, s.treatment), short(s.treatment));
        Table::new(
            &format!("{}_shift", self.name),
            &format!(
                "CKA of each layer before and after fine-tuning (1: it did not move), without and with midtraining; 95 % intervals over \
                 {unit}"
            ),
        )
        .with(Column::text("features", shifts.iter().map(|s| short(s.treatment))).meaning(
            "raw; standardised to unit variance; without-massive: without the dimensions that have more than 100 × the median \
             variance in any of the states",
        ))
        .with(Column::text("layer", shifts.iter().map(|s| s.layer)))
        .with(Column::number("base", four, shifts.iter().map(|s| s.base.value)))
        .with(
            Column::interval("base_ci", four, bounded(|s| s.base.clone()))
                .heading("over documents")
                .documents_only(),
        )
        .with(Column::number("midtrained", four, shifts.iter().map(|s| s.midtrained.value)))
        .with(
            Column::interval("midtrained_ci", four, bounded(|s| s.midtrained.clone()))
                .heading("over documents")
                .documents_only(),
        )
        .with(
            Column::number("difference", change, shifts.iter().map(|s| s.difference.value))
                .heading("Δ")
                .meaning("midtrained less base: above 0, the layer moved less with midtraining"),
        )
        .with(
            Column::interval("difference_ci", change, shifts.iter().map(|s| s.interval(LEVEL))).heading("95 % interval"),
        )
        .with(
            Column::interval(
                "difference_all_ci",
                change,
                shifts.iter().map(|s| s.interval(simultaneous(layers(shifts, s.treatment)))),
            )
            .heading("over all layers")
            .documents_only()
            .meaning("intervals that hold for all layers together at 95 % (Bonferroni)"),
        )
        .with(
            Column::interval(
                "difference_document_ci",
                change,
                shifts.iter().map(|s| over_documents(&s.difference, s.difference.interval(LEVEL))),
            )
            .heading("Δ over documents")
            .documents_only()
            .meaning("95 % interval over the same groups of documents, mean over seeds"),
        )
        .with(
            Column::number("detectable", four, shifts.iter().map(Shift::detectable))
                .documents_only()
                .meaning("the smallest true Δ that is found with a chance of 80 % (two-sided 5 %, one comparison)"),
        )
        .with(Column::count("seeds", shifts.iter().map(|s| s.seeds.n as u64)).file_only())
        .with(Column::count("groups", shifts.iter().map(|s| s.difference.groups() as u64)).file_only())
        .with(Column::text("unit", shifts.iter().map(|_| unit)).file_only())
        .with(Column::text("family", shifts.iter().map(family)).file_only())
        .with(
            Column::count("left_out", shifts.iter().map(|s| s.left_out))
                .documents_only()
                .meaning("dimensions of the layer that the treatment leaves out"),
        )
        .grouped()
    }
}

/// Layers that a treatment has values of.
fn layers(shifts: &[Shift<'_>], treatment: Treatment) -> usize {
    shifts.iter().filter(|s| s.treatment == treatment).count()
}

/// The level of intervals that hold for so many together.
fn simultaneous(count: usize) -> f64 {
    1.0 - (1.0 - LEVEL) / count.max(1) as f64
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

/// The layer that fine-tuning moved most, without and with midtraining; and on how many layers midtraining made a difference.
fn moved_most(shifts: &[Shift<'_>]) -> Vec<String> {
    let raw: Vec<&Shift<'_>> = shifts.iter().filter(|s| s.treatment == Treatment::Raw).collect();
    let Some(most) = raw.iter().min_by(|a, b| a.base.value.total_cmp(&b.base.value)) else { return Vec::new() };
    let interval = most
        .interval(LEVEL)
        .map_or_else(|| "no interval".to_owned(), |(low, high)| format!("95 % interval {low:+.3} to {high:+.3}"));
    let mut lines = vec![format!(
        "Fine-tuning moved {} of the base model most: its CKA with itself before is {:.3}; with midtraining it is {:.3}, a \
         difference of {:+.3} ({interval}).",
        most.layer, most.base.value, most.midtrained.value, most.difference.value
    )];
    let level = simultaneous(raw.len());
    let ends: Vec<(f64, f64)> = raw.iter().filter_map(|s| s.interval(level)).collect();
    if ends.len() == raw.len() {
        let (less, more) = (ends.iter().filter(|i| i.0 > 0.0).count(), ends.iter().filter(|i| i.1 < 0.0).count());
        lines[0] += &format!(
            " With midtraining {less} of {} layers moved less, {more} moved more, and {} are undecided (intervals that hold for all \
             layers together).",
            raw.len(),
            raw.len() - less - more
        );
    }
    lines
}
