//! Figure 4: when to begin and how much to mix in. (Section 6.)
//!
//! The grid's cells differ in how much of the source a model sees, not only in when: an early start at the same weight sees more.
//! Arms of a number of sequences ([`WeightCurve::Sequences`]) keep that apart: they see the same sequences whenever they begin.

use forgetting_eval::Summary;
use report::{Column, Curves, Figure, Format, Heatmap, Heatmaps, Lines, Page, Table};
use schedule::{Step, Weight, WeightCurve};

use super::Question;
use super::comparison::{ALONE, Difference, LEVEL, Unit, unit};
use super::figure5::{scale, seeds, tokens};
use super::losses::{self, Loss, Losses, OfSize, Wanted};
use super::table8::names;
use crate::graph::Graph;
use crate::protocol::{Arm, PYCODE, STARCODER, SftSet};
use crate::spec::CurveShape;
use crate::{ArmId, Error, SetId, Study};

/// The arms of a study that mix one source in, by their start and their weight, fine-tuned on a set, at every size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figure4<'a> {
    /// The source.
    pub source: &'a str,
    /// The set.
    pub set: &'a str,
    /// Arms in the order in which a later start is to be made up for by a higher weight.
    pub compensation: &'a [&'a str],
}

/// The paper's cells: 10 % at 42 B tokens, 20 % at 63 B, 30 % at 84 B.
pub(super) const COMPENSATION: &[&str] = &["Starcoder 10% @ 42B", "Starcoder 20% @ 63B", "Starcoder 30% @ 84B"];

impl Figure4<'static> {
    /// The paper's: Starcoder, fine-tuned on Pycode.
    pub const PAPER: Self = Self::of(STARCODER, PYCODE, COMPENSATION);
}

impl<'a> Figure4<'a> {
    /// Of the source of an arm and a set of a protocol.
    pub const fn of(arm: Arm<'a>, set: SftSet<'a>, compensation: &'a [&'a str]) -> Self {
        let source = match arm.mix {
            Some(mix) => mix.role,
            None => "",
        };
        Self { source, set: set.name, compensation }
    }
}

/// The arms of one source, by when they begin.
pub(super) struct Grid {
    /// A constant share: start and weight, in their order.
    pub(super) cells: Vec<(Step, Weight, ArmId)>,
    /// A number of sequences.
    pub(super) fibres: Vec<(Step, u64, ArmId)>,
}

impl Grid {
    /// Arms of one phase, of nothing but the source, that leave room for general text.
    pub(super) fn of(study: &Study, source: &str) -> Self {
        let (mut cells, mut fibres) = (Vec::new(), Vec::new());
        for arm in study.treated() {
            let [phase] = study[arm].timeline().phases() else { continue };
            let names: Vec<&str> = phase.specialised.iter().flat_map(|s| s.iter().map(|(name, _)| name)).collect();
            if names != [source] {
                continue;
            }
            match phase.weight {
                WeightCurve::Constant(weight) if weight < Weight::ONE => cells.push((phase.start, weight, arm)),
                WeightCurve::Sequences(count) => fibres.push((phase.start, count, arm)),
                _ => {}
            }
        }
        cells.sort_unstable();
        fibres.sort_unstable();
        Self { cells, fibres }
    }

    fn arms(&self) -> impl Iterator<Item = ArmId> {
        self.cells.iter().map(|(.., arm)| *arm).chain(self.fibres.iter().map(|(.., arm)| *arm))
    }

    fn starts(&self) -> Vec<Step> {
        let mut starts: Vec<Step> = self.cells.iter().map(|(start, ..)| *start).collect();
        starts.dedup();
        starts
    }

    fn weights(&self) -> Vec<Weight> {
        let mut weights: Vec<Weight> = self.cells.iter().map(|(_, weight, _)| *weight).collect();
        weights.sort_unstable();
        weights.dedup();
        weights
    }

    /// The numbers of sequences that there are arms of.
    fn counts(&self) -> Vec<u64> {
        let mut counts: Vec<u64> = self.fibres.iter().map(|(_, count, _)| *count).collect();
        counts.sort_unstable();
        counts.dedup();
        counts
    }

    fn cell(&self, start: Step, weight: Weight) -> Option<ArmId> {
        self.cells.iter().find(|(s, w, _)| (*s, *w) == (start, weight)).map(|(.., arm)| *arm)
    }

    /// The lowest and the highest weight at the earliest and at the latest start: early low, early high, late low, late high.
    pub(super) fn corners(&self) -> Option<[ArmId; 4]> {
        let (starts, weights) = (self.starts(), self.weights());
        let ([early, .., late], [low, .., high]) = (starts.as_slice(), weights.as_slice()) else { return None };
        let cell = |start: &Step, weight: &Weight| self.cell(*start, *weight);
        Some([cell(early, low)?, cell(early, high)?, cell(late, low)?, cell(late, high)?])
    }
}

impl Figure4<'_> {
    fn places(&self, study: &Study) -> Result<(Grid, SetId), Error> {
        let grid = Grid::of(study, self.source);
        if grid.cells.is_empty() && grid.fibres.is_empty() {
            let limit = "has no arm of one phase with it beside general text";
            return Err(Error::field("arms", self.source, limit));
        }
        Ok((grid, study.set_named(self.set)?))
    }
}

impl Question for Figure4<'_> {
    fn name(&self) -> &str {
        "figure4"
    }

    fn check(&self, study: &Study) -> Result<(), Error> {
        self.places(study).map(|_| ())
    }

    fn needs(&self, graph: &mut Graph<'_>) -> Result<(), Error> {
        let (grid, set) = self.places(graph.study())?;
        let arms: Vec<ArmId> = grid.arms().chain([graph.study().control()]).collect();
        losses::needs_at_each_size(graph, Wanted::cells(&|arm, s| s == set && arms.contains(&arm)))
    }

    fn answer(&self, name: &str, graph: &mut Graph<'_>) -> Result<Page, Error> {
        let study = graph.study();
        let (grid, set) = self.places(study)?;
        let arms: Vec<ArmId> = grid.arms().chain([study.control()]).collect();
        let sizes = losses::at_each_size(graph, Wanted::cells(&|arm, s| s == set && arms.contains(&arm)))?;
        Shown { study, name, of: self, set, grid: &grid, sizes: &sizes }.page()
    }
}

struct Shown<'a> {
    study: &'a Study,
    name: &'a str,
    of: &'a Figure4<'a>,
    set: SetId,
    grid: &'a Grid,
    sizes: &'a [OfSize<'a>],
}

/// A combination of losses, seed by seed.
struct Contrast {
    model: String,
    what: String,
    arms: String,
    value: Option<f64>,
    interval: Option<(f64, f64)>,
    n: usize,
}

impl Shown<'_> {
    fn page(&self) -> Result<Page, Error> {
        let study = self.study;
        let set = &study[self.set].name;
        let contrasts = self.contrasts()?;
        let mut page = Page::new(&format!("{} ({})", super::heading(self.name), names(self.sizes)));
        page.asked =
            format!("When should {} be mixed in, and how much of it, for fine-tuning on {set}?", self.of.source);
        // The table has the others.
        page.found = contrasts.first().and_then(said).into_iter().collect();
        page.found.extend([self.curve(), unit(study)]);
        for size in self.sizes {
            let model = &size.study.spec().model_name;
            page.found.extend(size.losses.failures().into_iter().map(|line| format!("{model}: {line}")));
            page.notes.extend(size.losses.at_the_edge().map(|line| format!("{model}: {line}")));
        }
        page.notes.insert(
            0,
            format!(
                "Cells of the grid see different amounts of the source: the earlier the start and the higher the weight, the more. The table \
                 says how many sequences each has seen.{}",
                if self.grid.fibres.is_empty() {
                    " --iso-exposure adds arms that see the same sequences whenever they begin."
                } else {
                    ""
                }
            ),
        );
        if !self.grid.fibres.is_empty() {
            page.notes.push(
                "Arms of the same number of sequences draw the source's first so many in the same order: the same sequences (each once, unless the \
                 source has fewer), spread evenly from their start to the end. How recent they are at the end still differs."
                    .to_owned(),
            );
        }
        page.tables = vec![self.table()?, self.contrast_table(&contrasts)];
        page.figures = vec![
            self.heatmaps(self.name, Loss::Sft, &format!("Loss on {set} after fine-tuning")),
            self.heatmaps(&format!("{}_c4", self.name), Loss::C4, "Loss on general text after fine-tuning"),
        ];
        page.figures.retain(|_| !self.grid.cells.is_empty());
        page.figures.extend((!self.grid.fibres.is_empty()).then(|| self.fibres()));
        page.details =
            self.sizes.iter().flat_map(|size| size.losses.details_of(&size.study.spec().model_name)).collect();
        Ok(page)
    }

    /// What the start is confounded with.
    fn curve(&self) -> String {
        match self.study.spec().pretrain.shape {
            CurveShape::Constant => {
                "The learning rate is constant after its warm-up, the same whenever something is mixed in. Under a rate that falls an early start may \
                 be worth more, or less.".to_owned()
            }
            _ => "All of this is of the start under this curve of learning rates: a later start also has lower rates (--curve constant keeps \
                  the two apart)."
                .to_owned(),
        }
    }

    fn summary(&self, size: &OfSize<'_>, arm: ArmId, loss: Loss) -> Option<Summary> {
        size.losses.values(arm, self.set, |m| loss.of(m)).map(|values| Summary::of(&values))
    }

    /// Sequences of the source that an arm sees.
    fn sequences(&self, arm: ArmId) -> f64 {
        let spec = self.study.spec();
        let phases = self.study[arm].timeline().phases().iter();
        let slots =
            phases.map(|phase| (phase, (spec.pretrain.steps - phase.start.0).saturating_mul(spec.pretrain.batch)));
        slots
            .map(|(phase, slots)| {
                let (numerator, scale) = phase.weight.integral(slots, slots);
                (numerator / (scale * u128::from(Weight::PARTS))) as f64
            })
            .sum()
    }

    fn contrasts(&self) -> Result<Vec<Contrast>, Error> {
        let mut out = Vec::new();
        for size in self.sizes {
            if let Some([early_low, early_high, late_low, late_high]) = self.grid.corners() {
                let weights = self.grid.weights();
                let (low, high) = (weights[0], weights[weights.len() - 1]);
                let [least, most] = [low, high].map(percent);
                let terms = [(early_low, 1.0), (early_high, -1.0), (late_low, -1.0), (late_high, 1.0)];
                let what = format!(
                    "what {most} gains over {least} when it begins early, less what it gains when it begins late (Finding 4: above 0)"
                );
                out.push(self.combination(size, what, &terms));
                for start in self.grid.starts() {
                    if let (Some(low_arm), Some(high_arm)) = (self.grid.cell(start, low), self.grid.cell(start, high)) {
                        let what = format!("{most} less {least}, both from {}", tokens(self.study, start));
                        out.push(self.pair(size, what, high_arm, low_arm)?);
                    }
                }
            }
            let cells: Vec<ArmId> =
                self.of.compensation.iter().filter_map(|name| self.study.arm_named(name).ok()).collect();
            for pair in cells.windows(2) {
                let [before, after] = [pair[0], pair[1]];
                let what = format!(
                    "{} less {}: later, and more of it (no compensation: above 0)",
                    self.study[after].name(),
                    self.study[before].name()
                );
                out.push(self.pair(size, what, after, before)?);
            }
            for sequences in self.grid.counts() {
                let mut of_count = self.grid.fibres.iter().filter(|(_, count, _)| *count == sequences);
                let (Some((first, _, early)), Some((last, _, late))) = (of_count.next(), of_count.next_back()) else {
                    continue;
                };
                let what = format!(
                    "the same {sequences} sequences from {} on, less from {} on",
                    tokens(self.study, *last),
                    tokens(self.study, *first)
                );
                out.push(self.pair(size, what, *late, *early)?);
            }
        }
        Ok(out)
    }

    fn combination(&self, size: &OfSize<'_>, what: String, terms: &[(ArmId, f64)]) -> Contrast {
        let values = combined(&size.losses, self.set, Loss::Sft, terms);
        let summary = values.map(|values| Summary::of(&values));
        let arms = terms
            .iter()
            .map(|(arm, sign)| format!("{}{}", if *sign > 0.0 { "+" } else { "−" }, self.study[*arm].name()));
        Contrast {
            model: size.study.spec().model_name.clone(),
            what,
            arms: arms.collect::<Vec<_>>().join(" "),
            value: summary.as_ref().map(|s| s.mean),
            interval: summary.as_ref().and_then(|s| s.interval(LEVEL)),
            n: summary.map_or(0, |s| s.n),
        }
    }

    fn pair(&self, size: &OfSize<'_>, what: String, arm: ArmId, against: ArmId) -> Result<Contrast, Error> {
        let difference = Difference::of(size.study, &size.losses, (arm, against), self.set, Loss::Sft)?;
        Ok(Contrast {
            model: size.study.spec().model_name.clone(),
            what,
            arms: format!("{} less {}", self.study[arm].name(), self.study[against].name()),
            value: difference.as_ref().map(|d| d.seeds.mean),
            interval: difference.as_ref().and_then(Difference::interval),
            n: difference.map_or(0, |d| d.seeds.n),
        })
    }

    fn contrast_table(&self, contrasts: &[Contrast]) -> Table {
        let change = Format::Signed(3);
        let unit = Unit::of(self.study).name();
        Table::new(
            "contrasts",
            &format!("What the grid says of the loss on {}, nats per token", self.study[self.set].name),
        )
        .with(Column::text("model", contrasts.iter().map(|c| c.model.as_str())))
        .with(Column::text("contrast", contrasts.iter().map(|c| c.what.as_str())))
        .with(Column::number("value", change, contrasts.iter().map(|c| c.value)))
        .with(Column::interval("ci", change, contrasts.iter().map(|c| c.interval)).heading("95 % interval"))
        .with(Column::text("arms", contrasts.iter().map(|c| c.arms.as_str())).documents_only())
        .with(Column::count("seeds", contrasts.iter().map(|c| c.n as u64)).file_only())
        .with(Column::text("unit", contrasts.iter().map(|c| c.interval.map_or("", |_| unit))).file_only())
        .with(Column::text("family", contrasts.iter().map(|c| c.interval.map_or("", |_| ALONE))).file_only())
        .note(format!("Intervals are over {unit}, each alone."))
    }

    fn table(&self) -> Result<Table, Error> {
        struct Row<'a> {
            size: &'a OfSize<'a>,
            arm: ArmId,
            delta: Option<Difference>,
        }
        let mut rows = Vec::new();
        for size in self.sizes {
            for arm in std::iter::once(self.study.control()).chain(self.grid.arms()) {
                let pair = (arm, self.study.control());
                let delta = Difference::of(size.study, &size.losses, pair, self.set, Loss::Sft)?;
                rows.push(Row { size, arm, delta });
            }
        }
        let (study, loss, change) = (self.study, Format::Fixed(3), Format::Signed(3));
        let start = |r: &Row<'_>| study[r.arm].timeline().phases().first().map(|phase| phase.start);
        let weight = |r: &Row<'_>| match study[r.arm].timeline().phases().first().map(|phase| phase.weight) {
            Some(WeightCurve::Constant(weight)) => Some(weight.as_f64()),
            _ => None,
        };
        let mean = |of: Loss| rows.iter().map(move |r| self.summary(r.size, r.arm, of).map(|s| s.mean));
        let lowest = |r: &Row<'_>| {
            let of = |arm| self.summary(r.size, arm, Loss::Sft).map(|s| s.mean);
            let least = self.grid.cells.iter().filter_map(|(.., arm)| of(*arm)).fold(f64::INFINITY, f64::min);
            of(r.arm) == Some(least)
        };
        let interval =
            |r: &Row<'_>| r.delta.as_ref().filter(|_| r.arm != study.control()).and_then(Difference::interval);
        let unit = Unit::of(study).name();
        let title = format!("Loss on {} after fine-tuning, by start and weight, nats per token", study[self.set].name);
        Ok(Table::new(self.name, &title)
            .with(Column::text("model", rows.iter().map(|r| r.size.study.spec().model_name.as_str())).documents_only())
            .with(Column::text("mix", rows.iter().map(|r| study[r.arm].name())))
            .with(Column::count("start_step", rows.iter().map(|r| start(r).map(|s| s.0))).heading("start"))
            .with(
                Column::count(
                    "start_tokens",
                    rows.iter().map(|r| start(r).map(|s| s.0.saturating_mul(study.tokens_per_step()))),
                )
                .file_only(),
            )
            .with(Column::number("mix_weight", Format::Fixed(2), rows.iter().map(weight)).heading("weight"))
            .with(
                Column::count("sequences", rows.iter().map(|r| self.sequences(r.arm) as u64))
                    .meaning("of the source, seen in all"),
            )
            .with(
                Column::number("sft_loss", loss, mean(Loss::Sft))
                    .heading("SFT")
                    .absent("failed")
                    .marked(rows.iter().map(lowest)),
            )
            .with(
                Column::number("sft_delta", change, rows.iter().map(|r| r.delta.as_ref().map(|d| d.seeds.mean)))
                    .heading("Δ"),
            )
            .with(Column::interval("sft_delta_ci", change, rows.iter().map(interval)).heading("95 % interval"))
            .with(Column::number("c4_loss", loss, mean(Loss::C4)).heading("C4").absent("failed"))
            .with(Column::text("unit", rows.iter().map(|r| interval(r).map_or("", |_| unit))).file_only())
            .with(Column::text("family", rows.iter().map(|r| interval(r).map_or("", |_| ALONE))).file_only())
            .note("* or bold: the lowest of the grid at its size; others may not be distinguishable from it."))
    }

    fn heatmaps(&self, name: &str, loss: Loss, title: &str) -> Figure {
        let (starts, weights) = (self.grid.starts(), self.grid.weights());
        let value = |size: &OfSize<'_>, start: Step, weight: Weight| {
            self.summary(size, self.grid.cell(start, weight)?, loss).map(|s| s.mean)
        };
        let (divisor, word) = scale(self.study);
        let column = |start: &Step| format!("{:.3}", start.0 as f64 * self.study.tokens_per_step() as f64 / divisor);
        let panel = |size: &OfSize<'_>| {
            let values: Vec<Vec<Option<f64>>> = weights
                .iter()
                .rev()
                .map(|weight| starts.iter().map(|start| value(size, *start, *weight)).collect())
                .collect();
            let cells = values
                .iter()
                .enumerate()
                .flat_map(|(r, row)| row.iter().enumerate().filter_map(move |(c, v)| v.map(|v| (v, r, c))));
            let best = cells.min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, r, c)| (r, c));
            Heatmap {
                title: size.study.spec().model_name.clone(),
                row_axis: "weight".to_owned(),
                column_axis: format!("start, {word} of tokens"),
                rows: weights.iter().rev().map(|w| percent(*w)).collect(),
                columns: starts.iter().map(column).collect(),
                values,
                marks: best.into_iter().collect(),
            }
        };
        let panels: Vec<Heatmap> = self.sizes.iter().map(panel).collect();
        let all = || panels.iter().flat_map(|p| p.values.iter().flatten().flatten().copied());
        let range = (all().fold(f64::INFINITY, f64::min), all().fold(f64::NEG_INFINITY, f64::max));
        // Without any value there is no scale: any will do.
        let scale = match range {
            (low, high) if low < high => (low, high),
            // One value.
            (low, high) if low == high => (low - 0.05 * low.abs(), high + 0.05 * high.abs()),
            _ => (0.0, 1.0),
        };
        let rows: Vec<(&OfSize<'_>, Step, Weight)> = self
            .sizes
            .iter()
            .flat_map(|size| self.grid.cells.iter().map(move |(start, weight, _)| (size, *start, *weight)))
            .collect();
        let data = Table::new(name, &format!("{title}, by start and weight ({})", names(self.sizes)))
            .with(Column::text("model", rows.iter().map(|(size, ..)| size.study.spec().model_name.as_str())))
            .with(Column::count("start_step", rows.iter().map(|(_, start, _)| start.0)))
            .with(Column::number("mix_weight", Format::Fixed(2), rows.iter().map(|(.., weight)| weight.as_f64())))
            .with(Column::number(
                "loss",
                Format::Fixed(4),
                rows.iter().map(|(size, start, weight)| value(size, *start, *weight)),
            ));
        let picture =
            Heatmaps { panels, across: 2, scale, measure: "nats per token".to_owned(), decimals: 3, reversed: true };
        Figure::new(data, picture).subtitle(["Bright is low; framed: the lowest of the grid.".to_owned()])
    }

    /// The loss by start at the same exposure.
    fn fibres(&self) -> Figure {
        let fibres = &self.grid.fibres;
        let (divisor, word) = scale(self.study);
        let hole = (f64::NAN, f64::NAN);
        // Arms of one number of sequences, a curve a size.
        let curves = |count: u64, title: String, loss: Loss| {
            let of_count: Vec<(Step, ArmId)> =
                fibres.iter().filter(|(_, c, _)| *c == count).map(|(start, _, arm)| (*start, *arm)).collect();
            let summaries = |size: &OfSize<'_>| -> Vec<Option<Summary>> {
                of_count.iter().map(|(_, arm)| self.summary(size, *arm, loss)).collect()
            };
            let all: Vec<Vec<Option<Summary>>> = self.sizes.iter().map(summaries).collect();
            let mean = |s: &Option<Summary>| s.as_ref().map_or(f64::NAN, |s| s.mean);
            let band = |s: &Option<Summary>| s.as_ref().and_then(|s| s.interval(LEVEL)).unwrap_or(hole);
            let tokens = self.study.tokens_per_step() as f64;
            Curves {
                title,
                x: of_count.iter().map(|(start, _)| start.0 as f64 * tokens / divisor).collect(),
                ys: all.iter().map(|size| size.iter().map(mean).collect()).collect(),
                bands: all.iter().map(|size| Some(size.iter().map(band).collect())).collect(),
                points: true,
                y_axis: None,
            }
        };
        let set = &self.study[self.set].name;
        let picture = Lines {
            x_axis: format!("start, {word} of tokens"),
            y_axis: "nats per token".to_owned(),
            names: self.sizes.iter().map(|s| s.study.spec().model_name.clone()).collect(),
            scaled_to: usize::MAX,
            panels: self
                .grid
                .counts()
                .into_iter()
                .flat_map(|count| {
                    [
                        curves(count, format!("{count} sequences: loss on {set} after fine-tuning"), Loss::Sft),
                        curves(count, format!("{count} sequences: loss on general text after it"), Loss::C4),
                    ]
                })
                .collect(),
            across: 2,
            from_zero: false,
            own_scales: true,
        };
        let rows: Vec<(&OfSize<'_>, Step, u64, ArmId)> = self
            .sizes
            .iter()
            .flat_map(|size| fibres.iter().map(move |(start, count, arm)| (size, *start, *count, *arm)))
            .collect();
        let of = |loss: Loss| rows.iter().map(move |(size, .., arm)| self.summary(size, *arm, loss));
        let loss = Format::Fixed(4);
        let title = format!("The same sequences of {}, mixed in from different starts on", self.of.source);
        let data = Table::new(&format!("{}_exposure", self.name), &title)
            .with(Column::text("model", rows.iter().map(|(size, ..)| size.study.spec().model_name.as_str())))
            .with(Column::count("start_step", rows.iter().map(|(_, start, ..)| start.0)))
            .with(Column::count("sequences", rows.iter().map(|(_, _, count, _)| *count)))
            .with(Column::number("sft_loss", loss, of(Loss::Sft).map(|s| s.map(|s| s.mean))))
            .with(Column::interval("sft_ci", loss, of(Loss::Sft).map(|s| s?.interval(LEVEL))))
            .with(Column::number("c4_loss", loss, of(Loss::C4).map(|s| s.map(|s| s.mean))))
            .with(Column::interval("c4_ci", loss, of(Loss::C4).map(|s| s?.interval(LEVEL))))
            .with(Column::text("unit", rows.iter().map(|_| seeds(self.study))))
            .with(Column::text("family", rows.iter().map(|_| ALONE)));
        Figure::new(data, picture).subtitle([format!(
            "Bands: 95 % intervals of each mean, over {}. {}",
            seeds(self.study),
            self.curve()
        )])
    }
}

/// A sum of arms' losses, each with its sign, seed by seed; `None` where one of them has no result.
fn combined(losses: &Losses, set: SetId, loss: Loss, terms: &[(ArmId, f64)]) -> Option<Vec<f64>> {
    let mut sum: Option<Vec<f64>> = None;
    for (arm, factor) in terms {
        let values = losses.values(*arm, set, |m| loss.of(m))?;
        let mut whole = sum.unwrap_or_else(|| vec![0.0; values.len()]);
        if whole.len() != values.len() {
            return None;
        }
        whole.iter_mut().zip(values).for_each(|(sum, value)| *sum += factor * value);
        sum = Some(whole);
    }
    sum
}

/// A contrast in a sentence.
fn said(contrast: &Contrast) -> Option<String> {
    let interval = contrast
        .interval
        .map_or_else(|| "no interval".to_owned(), |(low, high)| format!("95 % interval {low:+.3} to {high:+.3}"));
    Some(format!("{}: {:+.3} ({interval}).", capital(&contrast.what), contrast.value?))
}

fn percent(weight: Weight) -> String {
    format!("{} %", (1000.0 * weight.as_f64()).round() / 10.0)
}

/// With a capital letter.
fn capital(words: &str) -> String {
    let mut letters = words.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
