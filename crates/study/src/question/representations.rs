//! How representations move: CKA between the states of a study (Section 7; Figures 6 and 9 to 13).

use forgetting_eval::{Level, Nested, Summary};
use metrics_cka::{Cell, Jackknifed, Matrix, Treatment};
use report::{Column, Figure, Format, Heatmap, Heatmaps, Page, Table};

use super::Question;
use super::comparison::{ALONE, LEAST, LEVEL, POWER, Unit, median, uncertain, unit};
use crate::graph::{BASE_TUNED, Graph, MIDTRAINED_TUNED, Rate};
use crate::job::{ProbeResult, StateComparison};
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
        if let Some((_, any)) = results.first() {
            let first = results.iter().find(|(seeds, _)| *seeds == (0, 0)).map(|(_, first)| first);
            page = Shown { name, study, of: self, any, first, all: &results }.page(page)?;
        }
        page.notes.extend(failed);
        Ok(page)
    }
}

/// A pretraining and a fine-tuning seed.
pub(super) type Seeds = (u64, u64);

/// Pretraining and fine-tuning seeds, the first ones first.
pub(super) fn seeds(study: &Study) -> impl Iterator<Item = Seeds> + use<> {
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

struct Shown<'a> {
    name: &'a str,
    study: &'a Study,
    of: &'a Representations<'a>,
    /// A result, whatever its seeds.
    any: &'a ProbeResult,
    /// That of the first seeds, which holds all pairs of states.
    first: Option<&'a ProbeResult>,
    /// Of all seeds that have a result.
    all: &'a [((u64, u64), ProbeResult)],
}

/// How a layer stays itself in fine-tuning, without and with midtraining: CKA with itself before, means over seeds.
struct Shift<'a> {
    treatment: Treatment,
    layer: &'a str,
    /// `None` where a seed has no value.
    base: Option<f64>,
    midtrained: Option<f64>,
    /// Midtrained less base: above 0, midtraining lessened the change.
    difference: Option<f64>,
    /// The same three over documents.
    documents: Option<[Jackknifed; 3]>,
    /// The difference over the study's seeds.
    seeds: Option<Summary>,
    unit: Unit,
    left_out: u64,
}

impl Shift<'_> {
    /// Over documents, where there are enough groups of them.
    fn over_documents(&self, which: usize) -> Option<&Jackknifed> {
        Some(&self.documents.as_ref()?[which]).filter(|value| value.groups() >= LEAST)
    }

    /// Of the difference, over the study's unit.
    fn interval(&self, level: f64) -> Option<(f64, f64)> {
        match self.unit {
            Unit::Documents => self.over_documents(DIFFERENCE)?.interval(level),
            _ => self.seeds?.interval(level),
        }
    }

    fn detectable(&self) -> Option<f64> {
        match self.unit {
            Unit::Documents => {
                let value = self.over_documents(DIFFERENCE)?;
                forgetting_eval::detectable(value.standard_error()?, (value.groups() - 1) as f64, LEVEL, POWER)
            }
            _ => self.seeds?.detectable(LEVEL, POWER),
        }
        .filter(|smallest| *smallest > 0.0)
    }
}

const BASE: usize = 0;
const MIDTRAINED: usize = 1;
const DIFFERENCE: usize = 2;
/// What CKA lies between.
const LIMITS: (f64, f64) = (-1.0, 1.0);

impl Shown<'_> {
    fn page(&self, mut page: Page) -> Result<Page, Error> {
        let of_pair = self.any.comparisons.first();
        let treatments: Vec<Treatment> =
            of_pair.map_or_else(Vec::new, |c| c.report.results.iter().map(|r| r.treatment).collect());
        let shifts = self.shifts(&treatments)?;
        let Representations { arm, set, probe } = self.of;
        page.asked = format!(
            "Does fine-tuning on {set} move the representations of a model that was midtrained on {arm} less than those of \
             the base model? Probed with {probe}."
        );
        page.found = moved_most(&shifts);
        page.found.push(unit(self.study));
        page.tables = vec![self.shift_table(&shifts)];
        if self.first.is_some() {
            page.figures = treatments.iter().enumerate().map(|(i, t)| self.figure(i, *t)).collect();
        }
        page.notes = self.notes(&shifts);
        Ok(page)
    }

    fn notes(&self, shifts: &[Shift<'_>]) -> Vec<String> {
        let Representations { arm, set, probe } = self.of;
        let groups = of_pair_groups(self.any);
        let over = if groups < LEAST {
            "too few for intervals over them".to_owned()
        } else {
            format!(
                "intervals over documents leave out one of {groups} groups of them at a time, the same for all states"
            )
        };
        let planned = self.study.spec().pretrain_seeds * self.study.spec().sft_seeds;
        let mut notes = vec![format!(
            "base: {}; midtrained: {arm}; + {set}: fine-tuned on it. {} documents, {} tokens of {probe} ({over}). {} The table's \
             numbers are means over {} of {planned} pairs of seeds.",
            self.study[self.study.control()].name(),
            self.any.documents,
            self.any.tokens,
            self.first
                .map_or("The first seeds failed: there are no heatmaps.", |_| "Heatmaps are those of the first seeds."),
            self.complete().count()
        )];
        let detected: Vec<f64> =
            shifts.iter().filter(|s| s.treatment == Treatment::Raw).filter_map(Shift::detectable).collect();
        notes.extend(median(&detected).map(|smallest| {
            format!(
                "The smallest true Δ that this design finds with a chance of 80 % (two-sided 5 %, one comparison): {smallest:.3} in the \
                 median of the layers.{}",
                uncertain(self.study)
            )
        }));
        notes
    }

    /// The results that means are over: with several pretraining seeds those of which all fine-tunes have one.
    fn complete(&self) -> impl Iterator<Item = &(Seeds, ProbeResult)> {
        let (pretraining, fine_tuning) = (self.study.spec().pretrain_seeds, self.study.spec().sft_seeds as usize);
        let whole = move |p: u64| self.all.iter().filter(|((other, _), _)| *other == p).count() == fine_tuning;
        self.all.iter().filter(move |((p, _), _)| pretraining == 1 || whole(*p))
    }

    /// The four states' names.
    fn states(&self) -> [String; 4] {
        let set = self.of.set;
        ["base".into(), "midtrained".into(), format!("base + {set}"), format!("midtrained + {set}")]
    }

    /// The comparison of two states under a treatment.
    fn matrix(&self, pair: (usize, usize), treatment: usize) -> Option<&Matrix> {
        let of = self.first?.comparisons.iter().find(|c| (c.left, c.right) == pair)?;
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
                marks: Vec::new(),
            })
        };
        let picture = Heatmaps {
            panels: PAIRS.iter().filter_map(panel).collect(),
            across: 3,
            scale: (0.0, 1.0),
            measure: "CKA".to_owned(),
            decimals: 2,
            reversed: false,
        };
        Figure::new(self.cells(&format!("{}{ending}", self.name), &what, index), picture)
            .subtitle([format!("{} tokens of {}", self.any.tokens, self.of.probe)])
    }

    /// Every cell of every pair.
    fn cells(&self, name: &str, what: &str, treatment: usize) -> Table {
        let states = self.states();
        let enough = of_pair_groups(self.any) >= LEAST;
        let interval = |cell: &Cell| cell.interval.filter(|_| enough);
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
            .with(Column::interval("debiased_ci", Format::Fixed(4), cells.iter().map(|c| interval(c.1))))
            .with(Column::number("biased", Format::Fixed(4), cells.iter().map(|c| value(c.2))))
            .with(Column::text("reason", cells.iter().map(reason)))
            .with(Column::text("unit", cells.iter().map(|c| interval(c.1).map_or("", |_| "documents"))))
            .with(Column::text("family", cells.iter().map(|c| interval(c.1).map_or("", |_| ALONE))))
    }

    /// Finding 5: how similar each layer stays to itself in fine-tuning, with and without midtraining.
    fn shifts(&self, treatments: &[Treatment]) -> Result<Vec<Shift<'_>>, Error> {
        let mut shifts = Vec::new();
        for (index, treatment) in treatments.iter().enumerate() {
            let Some(base) = compared(self.any, BASE_TUNED) else { continue };
            let result = &base.report.results[index];
            for (layer, name) in result.matrix.rows.iter().enumerate() {
                shifts.push(self.shift(index, *treatment, (layer, name), result.left_out_left[layer] as u64)?);
            }
        }
        Ok(shifts)
    }

    fn shift<'s>(
        &'s self,
        index: usize,
        treatment: Treatment,
        (layer, name): (usize, &'s str),
        left_out: u64,
    ) -> Result<Shift<'s>, Error> {
        let unit = Unit::of(self.study);
        let (mut values, mut documents) = (Vec::new(), Vec::new());
        let mut by_seed = vec![Vec::new(); self.study.spec().pretrain_seeds as usize];
        for ((pretrain_seed, _), result) in self.complete() {
            let of = |pair| self_similarity(compared(result, pair)?, index, layer);
            if let (Some(base), Some(midtrained)) = (of(BASE_TUNED), of(MIDTRAINED_TUNED)) {
                values.push([base.0, midtrained.0]);
                by_seed[*pretrain_seed as usize].push(midtrained.0 - base.0);
                documents.extend(base.1.zip(midtrained.1));
            }
        }
        // A mean over some of the seeds would be another number than its neighbours.
        let whole = !values.is_empty() && values.len() == self.complete().count();
        let mean = |of: fn(&[f64; 2]) -> f64| whole.then(|| values.iter().map(of).sum::<f64>() / values.len() as f64);
        let documents = match whole && documents.len() == values.len() {
            true => Some(over_documents(documents)?),
            false => None,
        };
        let nested = Nested::of(&by_seed);
        let same_unit = unit != Unit::Pretraining || nested.level == Level::Pretraining;
        Ok(Shift {
            treatment,
            layer: name,
            base: mean(|[base, _]| *base),
            midtrained: mean(|[_, midtrained]| *midtrained),
            difference: mean(|[base, midtrained]| midtrained - base),
            documents,
            seeds: (whole && same_unit).then_some(nested.summary),
            unit,
            left_out,
        })
    }

    fn shift_table(&self, shifts: &[Shift<'_>]) -> Table {
        let (four, change) = (Format::Fixed(4), Format::Signed(4));
        let bounded = |which: usize| {
            shifts.iter().map(move |s| s.over_documents(which).and_then(|v| v.bounded_interval(LEVEL, LIMITS)))
        };
        let unit = Unit::of(self.study).name();
        let layers = shifts.iter().filter(|s| s.treatment == Treatment::Raw).count();
        let number =
            |name: &str, value: fn(&Shift<'_>) -> Option<f64>| Column::number(name, four, shifts.iter().map(value));
        let interval =
            |name: &str, level: f64| Column::interval(name, change, shifts.iter().map(move |s| s.interval(level)));
        let family = |s: &Shift<'_>| format!("{layers} layers, {} features", short(s.treatment));
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
        .with(number("base", |s| s.base))
        .with(Column::interval("base_ci", four, bounded(BASE)).heading("over documents").documents_only())
        .with(number("midtrained", |s| s.midtrained))
        .with(Column::interval("midtrained_ci", four, bounded(MIDTRAINED)).heading("over documents").documents_only())
        .with(
            Column::number("difference", change, shifts.iter().map(|s| s.difference))
                .heading("Δ")
                .meaning("midtrained less base: above 0, the layer moved less with midtraining"),
        )
        .with(interval("difference_ci", LEVEL).heading("95 % interval"))
        .with(
            interval("difference_all_ci", simultaneous(layers))
                .heading("over all layers")
                .documents_only()
                .meaning("intervals that hold for all layers together at 95 % (Bonferroni)"),
        )
        .with(
            Column::interval(
                "difference_document_ci",
                change,
                shifts.iter().map(|s| s.over_documents(DIFFERENCE).and_then(|v| v.interval(LEVEL))),
            )
            .heading("Δ over documents")
            .documents_only()
            .meaning("95 % interval over the same groups of documents, mean over seeds"),
        )
        .with(
            number("detectable", |s| s.detectable())
                .documents_only()
                .meaning("the smallest true Δ that is found with a chance of 80 % (two-sided 5 %, one comparison)"),
        )
        .with(Column::count("seeds", shifts.iter().map(|s| s.seeds.map(|s| s.n as u64))).file_only())
        .with(
            Column::count("groups", shifts.iter().map(|s| s.documents.as_ref().map(|d| d[BASE].groups() as u64)))
                .file_only(),
        )
        .with(Column::text("unit", shifts.iter().map(|_| unit)).file_only())
        .with(Column::text("family", shifts.iter().map(family)).file_only())
        .with(
            Column::count("left_out", shifts.iter().map(|s| s.left_out))
                .documents_only()
                .meaning("dimensions of the layer that the treatment leaves out"),
        )
        .grouped()
        .note("Without a value: CKA is undefined there for some of the seeds; the figures' tables say why.")
    }
}

/// The comparison of two states.
fn compared(result: &ProbeResult, pair: (usize, usize)) -> Option<&StateComparison> {
    result.comparisons.iter().find(|c| (c.left, c.right) == pair)
}

/// CKA of a layer with the one of the same name, and what it is without each group of documents.
fn self_similarity(of: &StateComparison, treatment: usize, layer: usize) -> Option<(f64, Option<Jackknifed>)> {
    let matrix = &of.report.results.get(treatment)?.matrix;
    let column = matrix.columns.iter().position(|column| *column == matrix.rows[layer])?;
    Some((value(&matrix.debiased[layer][column])?, of.same_layer.get(treatment)?.get(layer)?.clone()))
}

/// By how much the last layer stays more like itself in fine-tuning with midtraining than without; `None` where CKA is undefined.
pub(super) fn steadier_by(result: &ProbeResult) -> Option<f64> {
    let of = |pair| {
        let comparison = compared(result, pair)?;
        let last = comparison.report.results.first()?.matrix.rows.len().checked_sub(1)?;
        self_similarity(comparison, 0, last).map(|(value, _)| value)
    };
    Some(of(MIDTRAINED_TUNED)? - of(BASE_TUNED)?)
}

/// Means over seeds of the base's, the midtrained model's, and their difference.
fn over_documents(seeds: Vec<(Jackknifed, Jackknifed)>) -> Result<[Jackknifed; 3], metrics_cka::Error> {
    let (base, midtrained): (Vec<Jackknifed>, Vec<Jackknifed>) = seeds.into_iter().unzip();
    let (base, midtrained) = (Jackknifed::mean(&base)?, Jackknifed::mean(&midtrained)?);
    let difference = midtrained.less(&base)?;
    Ok([base, midtrained, difference])
}

/// Groups of documents of a probe.
fn of_pair_groups(result: &ProbeResult) -> usize {
    let first = result.comparisons.first().and_then(|c| c.report.results.first());
    first.map_or(0, |result| result.matrix.groups)
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
    let moved = raw.iter().filter_map(|s| Some((s, s.base?, s.midtrained?, s.difference?)));
    let Some((most, base, midtrained, difference)) = moved.min_by(|a, b| a.1.total_cmp(&b.1)) else {
        return Vec::new();
    };
    let interval = most
        .interval(LEVEL)
        .map_or_else(|| "no interval".to_owned(), |(low, high)| format!("95 % interval {low:+.3} to {high:+.3}"));
    let mut lines = vec![format!(
        "Fine-tuning moved {} of the base model most: its CKA with itself before is {base:.3}; with midtraining it is {midtrained:.3}, a \
         difference of {difference:+.3} ({interval}).",
        most.layer
    )];
    let ends: Vec<(f64, f64)> = raw.iter().filter_map(|s| s.interval(simultaneous(raw.len()))).collect();
    if !ends.is_empty() {
        let (less, more) = (ends.iter().filter(|i| i.0 > 0.0).count(), ends.iter().filter(|i| i.1 < 0.0).count());
        lines[0] += &format!(
            " With midtraining {less} of {} layers moved less, {more} moved more, and {} are undecided (intervals that hold for all \
             layers together).",
            ends.len(),
            ends.len() - less - more
        );
    }
    lines
}
