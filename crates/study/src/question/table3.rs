//! Table 3: is it better to mix specialised data in, or to go on with nothing else at the end? (Section 5.2.)

use forgetting_eval::holm;
use report::{BarPanel, Bars, Column, Estimate, Figure, Format, Page, Table};

use super::Question;
use super::comparison::{ALONE, Difference, Unit, is_significant, unit};
use super::figure5::in_words;
use super::losses::{self, Loss, OfSize, Wanted};
use super::table8::names;
use crate::graph::Graph;
use crate::protocol::{Arm, CONTINUED_MATH, CONTINUED_STARCODER, GSM8K, MATH, PYCODE, STARCODER, SftSet};
use crate::{ArmId, Error, SetId, Study};

/// An arm that mixes a source in, an arm that goes on with nothing else, and the set that both are fine-tuned on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Continued<'a> {
    /// The arm with the mixture.
    pub mixed: &'a str,
    /// The arm of continued pretraining.
    pub continued: &'a str,
    /// The set.
    pub set: &'a str,
}

impl<'a> Continued<'a> {
    /// Of arms and a set of a protocol.
    pub const fn of(mixed: Arm<'a>, continued: Arm<'a>, set: SftSet<'a>) -> Self {
        Self { mixed: mixed.name, continued: continued.name, set: set.name }
    }

    /// The paper's two.
    pub const PAPER: &'static [Continued<'static>] =
        &[Continued::of(STARCODER, CONTINUED_STARCODER, PYCODE), Continued::of(MATH, CONTINUED_MATH, GSM8K)];

    pub(super) fn places(&self, study: &Study) -> Result<Places, Error> {
        let [mixed, continued] = [study.arm_named(self.mixed)?, study.arm_named(self.continued)?];
        Ok(Places { mixed, continued, set: study.set_named(self.set)? })
    }
}

/// A comparison in a study.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Places {
    pub(super) mixed: ArmId,
    pub(super) continued: ArmId,
    pub(super) set: SetId,
}

/// Midtraining against continued pretraining, and both against pretraining on general text alone, at every size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Table3<'a> {
    /// What is compared.
    pub comparisons: &'a [Continued<'a>],
}

impl Table3<'static> {
    /// The paper's.
    pub const PAPER: Self = Self { comparisons: Continued::PAPER };
}

impl Table3<'_> {
    fn places(&self, study: &Study) -> Result<Vec<Places>, Error> {
        self.comparisons.iter().map(|c| c.places(study)).collect()
    }
}

impl Question for Table3<'_> {
    fn name(&self) -> &str {
        "table3"
    }

    fn check(&self, study: &Study) -> Result<(), Error> {
        self.places(study).map(|_| ())
    }

    fn needs(&self, graph: &mut Graph<'_>) -> Result<(), Error> {
        let places = self.places(graph.study())?;
        let control = graph.study().control();
        losses::needs_at_each_size(graph, Wanted::cells(&|arm, set| is_asked(&places, control, arm, set)))
    }

    fn answer(&self, name: &str, graph: &mut Graph<'_>) -> Result<Page, Error> {
        let places = self.places(graph.study())?;
        let study = graph.study();
        let wanted = |arm, set| is_asked(&places, study.control(), arm, set);
        let sizes = losses::at_each_size(graph, Wanted::cells(&wanted))?;
        let rows = rows(&sizes, &places);
        let contrasts = contrasts(&sizes, &places)?;
        let mut page = Page::new(&format!("{} ({})", super::heading(name), names(&sizes)));
        page.asked = "Is mixing specialised data into general text better than going on with specialised data alone, on the set and \
                      for general text?"
            .to_owned();
        page.found = found(study, &contrasts);
        page.found.push(unit(study));
        for size in &sizes {
            let model = &size.study.spec().model_name;
            page.found.extend(size.losses.failures().into_iter().map(|line| format!("{model}: {line}")));
            page.notes.extend(size.losses.at_the_edge().map(|line| format!("{model}: {line}")));
        }
        page.notes.push(exposure(study, &places));
        page.tables = vec![table(name, study, &rows), differences(study, &contrasts)];
        page.figures = vec![figure(name, study, &contrasts)];
        page.details = sizes.iter().flat_map(|size| size.losses.details_of(&size.study.spec().model_name)).collect();
        Ok(page)
    }
}

fn is_asked(places: &[Places], control: ArmId, arm: ArmId, set: SetId) -> bool {
    places.iter().any(|p| p.set == set && [control, p.mixed, p.continued].contains(&arm))
}

/// An arm on a set at a size.
struct Row<'a> {
    model: &'a str,
    set: &'a str,
    mix: &'a str,
    /// Means over seeds, and standard deviations.
    sft: Option<forgetting_eval::Summary>,
    c4: Option<forgetting_eval::Summary>,
}

fn rows<'a>(sizes: &'a [OfSize<'a>], places: &[Places]) -> Vec<Row<'a>> {
    let mut out = Vec::new();
    for OfSize { study, losses } in sizes {
        for Places { mixed, continued, set } in places {
            for arm in [study.control(), *mixed, *continued] {
                let of = |loss: Loss| {
                    losses.values(arm, *set, |m| loss.of(m)).map(|values| forgetting_eval::Summary::of(&values))
                };
                out.push(Row {
                    model: &study.spec().model_name,
                    set: &study[*set].name,
                    mix: study[arm].name(),
                    sft: of(Loss::Sft),
                    c4: of(Loss::C4),
                });
            }
        }
    }
    out
}

/// The mixture less continued pretraining: one loss of one set at one size.
struct Contrast<'a> {
    model: &'a str,
    set: &'a str,
    loss: Loss,
    /// `None` where one of both has no result.
    difference: Option<Difference>,
    p_adjusted: Option<f64>,
}

fn contrasts<'a>(sizes: &'a [OfSize<'a>], places: &[Places]) -> Result<Vec<Contrast<'a>>, Error> {
    let mut out = Vec::new();
    for OfSize { study, losses } in sizes {
        for Places { mixed, continued, set } in places {
            for loss in [Loss::Sft, Loss::C4] {
                let difference = Difference::of(study, losses, (*mixed, *continued), *set, loss)?;
                let (model, set) = (&study.spec().model_name, &study[*set].name);
                out.push(Contrast { model, set, loss, difference, p_adjusted: None });
            }
        }
    }
    let p: Vec<Option<f64>> = out.iter().map(|c| c.difference.as_ref()?.p()).collect();
    out.iter_mut().zip(holm(&p)).for_each(|(contrast, p)| contrast.p_adjusted = p);
    Ok(out)
}

fn found(study: &Study, contrasts: &[Contrast<'_>]) -> Vec<String> {
    let with: Vec<(&Contrast<'_>, f64)> =
        contrasts.iter().filter_map(|c| Some((c, c.difference.as_ref()?.seeds.mean))).collect();
    if with.is_empty() {
        return vec!["There is no pair of arms with results to compare.".to_owned()];
    }
    let lower = with.iter().filter(|(_, mean)| *mean < 0.0).count();
    let told = |sign: f64| {
        let sure = |c: &Contrast<'_>| c.p_adjusted.is_some_and(is_significant);
        with.iter().filter(|(c, mean)| sure(c) && mean * sign > 0.0).count()
    };
    let these = if Unit::of(study) == Unit::Pretraining { "" } else { " of these checkpoints" };
    vec![format!(
        "In {} comparisons{these} the mixture has the lower loss in {lower} (in the paper's Table 3 in {} of 8); at 5 %, adjusted by Holm \
         over them, it is lower in {} and higher in {}.",
        with.len(),
        printed(),
        told(-1.0),
        told(1.0)
    )]
}

/// In how many of the paper's eight comparisons the mixture's printed loss is the lower one.
fn printed() -> usize {
    let Ok(table) = super::printed::Printed::table(3) else { return 0 };
    let number = |row: usize, column: &str| table.number(&table.rows()[row], column).unwrap_or(f64::NAN);
    // Rows in threes: pretraining alone, the mixture, continued pretraining.
    let blocks = (0..table.rows().len() / 3).map(|block| 3 * block);
    let columns = blocks.flat_map(|first| [(first, "sft_loss"), (first, "c4_loss")]);
    columns.filter(|(first, column)| number(first + 1, column) < number(first + 2, column)).count()
}

/// What the arms see of the source: they are not matched in it.
fn exposure(study: &Study, places: &[Places]) -> String {
    let spec = study.spec();
    let tokens = |arm: ArmId| {
        let timeline = study[arm].timeline();
        let from = timeline.phases().first().map_or(0, |p| p.start.0);
        let general = timeline.general_sources();
        let all = (spec.pretrain.steps - from) as f64 * study.tokens_per_step() as f64;
        let shares = timeline.exposure(spec.pretrain.batch);
        all * shares.iter().filter(|(name, _)| !general.contains(name)).map(|(_, share)| share).sum::<f64>()
    };
    let each = places.iter().map(|p| {
        let (mixed, continued) = (tokens(p.mixed), tokens(p.continued));
        let names = (study[p.mixed].name(), study[p.continued].name());
        format!("{} {}, {} {}", names.0, in_words(mixed), names.1, in_words(continued))
    });
    format!(
        "The arms differ in when they begin and in how many specialised tokens they see ({}), not in the mixture alone: as in the paper, \
         they are not matched in either.",
        each.collect::<Vec<_>>().join("; ")
    )
}

fn table(name: &str, study: &Study, rows: &[Row<'_>]) -> Table {
    let loss = Format::Fixed(3);
    let mean = |of: fn(&Row<'_>) -> Option<forgetting_eval::Summary>| rows.iter().map(move |r| of(r).map(|s| s.mean));
    let sd = |of: fn(&Row<'_>) -> Option<forgetting_eval::Summary>| rows.iter().map(move |r| of(r).and_then(|s| s.sd));
    let title = format!(
        "Midtraining and continued pretraining: losses after fine-tuning, nats per token ({} pretraining × {} fine-tuning seeds)",
        study.spec().pretrain_seeds,
        study.spec().sft_seeds
    );
    let group = |r: &Row<'_>| format!("{}, {}", r.model, r.set);
    Table::new(name, &title)
        .with(Column::text("cell", rows.iter().map(group)).heading("model, set").documents_only())
        .with(Column::text("model", rows.iter().map(|r| r.model)))
        .with(Column::text("dataset", rows.iter().map(|r| r.set)).heading("set"))
        .with(Column::text("mix", rows.iter().map(|r| r.mix)))
        .with(Column::number("sft_loss", loss, mean(|r| r.sft)).heading("SFT").absent("failed"))
        .with(Column::number("c4_loss", loss, mean(|r| r.c4)).heading("C4").absent("failed"))
        .with(Column::count("seeds", rows.iter().map(|r| r.sft.as_ref().map(|s| s.n as u64))).file_only())
        .with(Column::number("sft_sd", loss, sd(|r| r.sft)).heading("sd").documents_only())
        .with(Column::number("c4_sd", loss, sd(|r| r.c4)).heading("sd, C4").documents_only())
        .grouped()
}

fn differences(study: &Study, contrasts: &[Contrast<'_>]) -> Table {
    let unit = Unit::of(study).name();
    let of = |value: fn(&Difference) -> Option<f64>| contrasts.iter().map(move |c| value(c.difference.as_ref()?));
    let interval = |c: &Contrast<'_>| c.difference.as_ref().and_then(Difference::interval);
    let members = contrasts.iter().filter(|c| c.p_adjusted.is_some()).count();
    let change = Format::Signed(3);
    Table::new("contrasts", &format!("The mixture less continued pretraining; 95 % intervals over {unit}"))
        .with(Column::text("model", contrasts.iter().map(|c| c.model)))
        .with(Column::text("dataset", contrasts.iter().map(|c| c.set)).heading("set"))
        .with(Column::text("loss", contrasts.iter().map(|c| c.loss.name())))
        .with(Column::number("difference", change, of(|d| Some(d.seeds.mean))).heading("Δ").absent("failed"))
        .with(Column::interval("ci", change, contrasts.iter().map(interval)).heading("95 % interval"))
        .with(Column::number("p", Format::Probability, of(Difference::p)).documents_only())
        .with(
            Column::number("p_adjusted", Format::Probability, contrasts.iter().map(|c| c.p_adjusted))
                .heading("p (Holm)"),
        )
        .with(Column::text("unit", contrasts.iter().map(|c| interval(c).map_or("", |_| unit))).file_only())
        .with(
            Column::text(
                "family",
                contrasts
                    .iter()
                    .map(|c| c.p_adjusted.map_or(String::new(), |_| format!("{members} comparisons of this table"))),
            )
            .file_only(),
        )
        .note("Below 0 the mixture has the lower loss.")
}

fn figure(name: &str, study: &Study, contrasts: &[Contrast<'_>]) -> Figure {
    let estimate = |c: &Contrast<'_>| {
        let difference = c.difference.as_ref()?;
        Some(Estimate { value: difference.seeds.mean, interval: difference.interval() })
    };
    let mut panels: Vec<BarPanel> = Vec::new();
    // Two losses of one set stand side by side.
    for pair in contrasts.chunks(2) {
        let group = (pair[0].set.to_owned(), pair.iter().map(estimate).collect::<Vec<_>>());
        match panels.last_mut().filter(|panel| panel.title == pair[0].model) {
            Some(panel) => panel.groups.push(group),
            None => panels.push(BarPanel { title: pair[0].model.to_owned(), groups: vec![group] }),
        }
    }
    let picture = Bars {
        axis: "nats per token".to_owned(),
        series: vec!["loss on the fine-tuning set".to_owned(), "loss on held-out general text".to_owned()],
        panels,
    };
    let change = Format::Signed(3);
    let data = Table::new(name, "The mixture less continued pretraining; below 0 the mixture is better")
        .with(Column::text("model", contrasts.iter().map(|c| c.model)))
        .with(Column::text("dataset", contrasts.iter().map(|c| c.set)))
        .with(Column::text("loss", contrasts.iter().map(|c| c.loss.name())))
        .with(Column::number("difference", change, contrasts.iter().map(|c| estimate(c).map(|e| e.value))))
        .with(Column::interval("ci", change, contrasts.iter().map(|c| estimate(c)?.interval)))
        .with(Column::text("unit", contrasts.iter().map(|_| Unit::of(study).name())))
        .with(Column::text("family", contrasts.iter().map(|_| ALONE)));
    Figure::new(data, picture)
        .subtitle([format!("Lines: 95 % intervals of paired differences, over {}.", Unit::of(study).name())])
}
