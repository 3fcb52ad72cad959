//! Tables 6 and 7: which learning rates fine-tuning was tried with, and which were chosen.

use report::{Column, Curves, Figure, Format, Heatmap, Heatmaps, Lines, Page, Table};

use super::Question;
use super::losses::{EVERY, SweepPoint, named, sweeps};
use super::printed::{Printed, papers_study};
use crate::graph::Graph;
use crate::plan::Plan;
use crate::protocol::Size;
use crate::{Error, SetId, Study};

/// Table 6: every rate that was tried, with its loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Table6;

/// Table 7: the rate that was chosen, by size and set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Table7;

/// Adds the sweeps at every size: on the control's checkpoint, or on each arm's where each has its own rate.
fn needs(graph: &mut Graph<'_>) -> Result<(), Error> {
    graph.study().sizes().try_for_each(|size| {
        graph.at(size, |graph| {
            let study = graph.study();
            let cells = study.sets().flat_map(|set| study.arms().map(move |arm| (arm, set)));
            cells.into_iter().try_for_each(|(arm, set)| graph.last_select(arm, set).map(|_| ()))
        })
    })
}

/// The sweeps of a size.
struct OfSize<'a> {
    study: &'a Study,
    points: Vec<SweepPoint>,
}

impl OfSize<'_> {
    fn of<'s>(&'s self, mix: &'s str, set: &'s str) -> impl Iterator<Item = &'s SweepPoint> {
        self.points.iter().filter(move |p| p.mix == mix && p.dataset == set)
    }

    /// The rate that was chosen, and whether it lies at the edge.
    fn chosen(&self, mix: &str, set: &str) -> Option<(f64, bool)> {
        self.of(mix, set).find_map(|p| Some((p.lr, p.chosen?)))
    }
}

/// The arms on whose checkpoints rates were tried.
fn tried_on(study: &Study, sizes: &[OfSize<'_>]) -> Vec<String> {
    let names = study.arms().map(|arm| study[arm].name().to_owned());
    names.filter(|name| sizes.iter().any(|size| size.points.iter().any(|p| p.mix == *name))).collect()
}

fn tried<'a>(graph: &mut Graph<'a>) -> Result<Vec<OfSize<'a>>, Error> {
    let sizes = graph.study().sizes();
    let of = |size| {
        graph.at(size, |graph| {
            let study = graph.study();
            let mut points = sweeps(graph, EVERY)?;
            // A grid that was extended downwards has its lowest rates last; sets keep their order.
            let place = |point: &SweepPoint| {
                let set = study.sets().position(|set| study[set].name == point.dataset);
                (set, study.arms().position(|arm| study[arm].name() == point.mix))
            };
            points.sort_by(|a, b| place(a).cmp(&place(b)).then(a.lr.total_cmp(&b.lr)));
            Ok(OfSize { study, points })
        })
    };
    sizes.map(of).collect()
}

/// A study whose rates are given has no sweep to show.
fn check(study: &Study, name: &str) -> Result<(), Error> {
    let given = study.sizes().find(|size| !study[*size].spec().sft.lr.is_chosen());
    given.map_or(Ok(()), |size| {
        let limit = format!("is given, so that {name} has no sweep to show; take sweep_base or sweep_each");
        Err(Error::field(format!("sft.lr of {}", study[size].spec().model_name), "fixed", limit))
    })
}

/// What the paper chose (Table 7), for models and sets of its names.
fn papers(model: &str, set: &str) -> Option<f64> {
    let table = Printed::table(7).ok()?;
    let row = table.row("dataset", set)?;
    row.contains_key(model).then(|| table.number(row, model).ok()).flatten()
}

impl Question for Table6 {
    fn name(&self) -> &str {
        "table6"
    }

    fn check(&self, study: &Study) -> Result<(), Error> {
        check(study, "table6")
    }

    fn needs(&self, graph: &mut Graph<'_>) -> Result<(), Error> {
        needs(graph)
    }

    fn answer(&self, name: &str, graph: &mut Graph<'_>) -> Result<Page, Error> {
        let sizes = tried(graph)?;
        let study = graph.study();
        let mut page = Page::new(&format!("{}: learning rates that were tried", super::heading(name)));
        page.asked = "How does the loss on the validation split depend on the learning rate of fine-tuning?".to_owned();
        page.found = vec![edges(&sizes)];
        page.tables = vec![grid(name, study, &sizes)];
        page.figures = vec![figure(name, study, &sizes)];
        page.notes = vec![format!(
            "Each rate was tried on {} with the first fine-tuning seed of each pretraining seed ({}).",
            tried_on(study, &sizes).join(", "),
            study.spec().pretrain_seeds
        )];
        Ok(page)
    }

    fn on_stated(&self, name: &str, study: &Study, _: &Plan) -> Result<Page, Error> {
        let rates = study.sets().flat_map(|set| {
            let grid = study.spec().sft.lr.grid(&study[set].name);
            grid.iter().map(move |rate| (study[set].name.as_str(), *rate)).collect::<Vec<_>>()
        });
        let rates: Vec<(&str, f64)> = rates.collect();
        let printed = Printed::table(6)?;
        let known = printed.rows().iter().map(|row| printed.number(row, "peak_lr")).collect::<Result<Vec<_>, _>>()?;
        let title = format!("{}: the grid of learning rates", super::heading(name));
        let table = Table::new(name, &title)
            .with(Column::text("dataset", rates.iter().map(|(set, _)| *set)).heading("set"))
            .with(Column::number("lr", Format::Scientific(1), rates.iter().map(|(_, rate)| *rate)).heading("rate"))
            .with(Column::text(
                "in_paper",
                rates.iter().map(|(_, rate)| if known.contains(rate) { "yes" } else { "no" }),
            ))
            .grouped()
            .note("Without data nothing was tried.");
        Ok(table.into())
    }
}

/// How many of the chosen rates lie at the edge of what was tried, in a sentence.
fn edges(sizes: &[OfSize<'_>]) -> String {
    let chosen: Vec<bool> = sizes.iter().flat_map(|size| &size.points).filter_map(|point| point.chosen).collect();
    match chosen.iter().filter(|at_edge| **at_edge).count() {
        _ if chosen.is_empty() => "No rate was chosen.".to_owned(),
        0 => format!("None of {} chosen rates lies at the edge of what was tried.", chosen.len()),
        edges => format!(
            "{edges} of {} chosen rates lie at the edge of what was tried: better ones may lie beyond.",
            chosen.len()
        ),
    }
}

fn grid(name: &str, study: &Study, sizes: &[OfSize<'_>]) -> Table {
    let rows: Vec<(&Study, &SweepPoint)> =
        sizes.iter().flat_map(|size| size.points.iter().map(move |point| (size.study, point))).collect();
    let mix = Column::text("mix", rows.iter().map(|(_, p)| p.mix.as_str()));
    let mix = if tried_on(study, sizes).len() > 1 { mix } else { mix.documents_only() };
    let printed = Printed::table(6).ok();
    let in_paper = |rate: f64| {
        let table = printed.as_ref()?;
        Some(table.rows().iter().any(|row| table.number(row, "peak_lr").is_ok_and(|known| known == rate)))
    };
    Table::new(name, "Learning rates of fine-tuning that were tried, with the loss on the validation split")
        .with(Column::text("model", rows.iter().map(|(study, _)| study.spec().model_name.as_str())))
        .with(Column::text("dataset", rows.iter().map(|(_, p)| p.dataset.as_str())).heading("set"))
        .with(mix)
        .with(Column::number("lr", Format::Scientific(1), rows.iter().map(|(_, p)| p.lr)).heading("rate"))
        .with(
            Column::number("validation_loss", Format::Fixed(4), rows.iter().map(|(_, p)| p.validation_loss))
                .heading("validation")
                .absent("failed")
                .marked(rows.iter().map(|(_, p)| p.chosen.is_some())),
        )
        .with(Column::text(
            "chosen",
            rows.iter().map(|(_, p)| match p.chosen {
                Some(true) => "chosen, at the edge",
                Some(false) => "chosen",
                None => "",
            }),
        ))
        .with(
            Column::text(
                "in_paper",
                rows.iter().map(|(_, p)| in_paper(p.lr).map_or("", |is| if is { "yes" } else { "no" })),
            )
            .documents_only()
            .meaning("whether the paper's grid has it (Table 6)"),
        )
        .grouped()
        .note("* or bold: what was chosen.")
}

/// Loss by rate, a panel a size and an arm on which rates were tried, a curve a set.
fn figure(name: &str, study: &Study, sizes: &[OfSize<'_>]) -> Figure {
    let mixes = tried_on(study, sizes);
    let curves = |(size, mix): (&OfSize<'_>, &String)| {
        let mut rates: Vec<f64> = size.points.iter().filter(|p| p.mix == *mix).map(|p| p.lr).collect();
        rates.sort_by(f64::total_cmp);
        rates.dedup();
        let loss = |set: SetId, rate: f64| {
            let mut points = size.of(mix, &study[set].name);
            points.find(|p| p.lr == rate).and_then(|p| p.validation_loss).unwrap_or(f64::NAN)
        };
        let model = &size.study.spec().model_name;
        Curves {
            title: if mixes.len() > 1 { format!("{model}, {mix}") } else { model.clone() },
            x: rates.iter().map(|rate| rate.log10()).collect(),
            ys: study.sets().map(|set| rates.iter().map(|rate| loss(set, *rate)).collect()).collect(),
            bands: Vec::new(),
            points: true,
            y_axis: None,
        }
    };
    let picture = Lines {
        x_axis: "log₁₀ of the peak learning rate".to_owned(),
        y_axis: "loss on the validation split".to_owned(),
        names: study.sets().map(|set| study[set].name.clone()).collect(),
        scaled_to: usize::MAX,
        panels: sizes.iter().flat_map(|size| mixes.iter().map(move |mix| (size, mix))).map(curves).collect(),
        across: 2,
        from_zero: false,
        own_scales: true,
    };
    let rows: Vec<(&Study, &SweepPoint)> =
        sizes.iter().flat_map(|size| size.points.iter().map(move |point| (size.study, point))).collect();
    let data = Table::new(name, "Loss on the validation split by the learning rate of fine-tuning")
        .with(Column::text("model", rows.iter().map(|(study, _)| study.spec().model_name.as_str())))
        .with(Column::text("dataset", rows.iter().map(|(_, p)| p.dataset.as_str())))
        .with(Column::text("mix", rows.iter().map(|(_, p)| p.mix.as_str())))
        .with(Column::number("lr", Format::Scientific(1), rows.iter().map(|(_, p)| p.lr)))
        .with(Column::number("validation_loss", Format::Fixed(4), rows.iter().map(|(_, p)| p.validation_loss)));
    Figure::new(data, picture)
}

/// Of whom, the sizes in parameters, and the rates of each set at these.
type BySize<'a> = (&'a str, Vec<f64>, Vec<Vec<f64>>);

/// Chosen rates by the model's size, and those that the paper printed.
fn by_size(name: &str, study: &Study, sizes: &[OfSize<'_>]) -> Result<Figure, Error> {
    let sets: Vec<&str> = study.sets().map(|set| study[set].name.as_str()).collect();
    let parameters = |size: &OfSize<'_>| size.study.spec().model.parameter_count().total as f64;
    let mixes = tried_on(study, sizes);
    let first = mixes.first().map_or("", String::as_str);
    let chosen = |size: &OfSize<'_>, set: &str| size.chosen(first, set).map_or(f64::NAN, |(rate, _)| rate);
    let mut own: Vec<&OfSize<'_>> = sizes.iter().collect();
    own.sort_by(|a, b| parameters(a).total_cmp(&parameters(b)));
    let parameters_of = |size: Size| papers_study(size).map(|spec| spec.model.parameter_count().total);
    let paper = Size::ALL.iter().map(|size| Ok((size.name(), parameters_of(*size)?)));
    let paper = paper.collect::<Result<Vec<_>, Error>>()?;
    let panels: [BySize<'_>; 2] = [
        (
            if mixes.len() > 1 { first } else { "this study" },
            own.iter().map(|size| parameters(size)).collect(),
            sets.iter().map(|set| own.iter().map(|size| chosen(size, set)).collect()).collect(),
        ),
        (
            "the paper (Table 7)",
            paper.iter().map(|(_, parameters)| *parameters as f64).collect(),
            sets.iter().map(|set| paper.iter().map(|(m, _)| papers(m, set).unwrap_or(f64::NAN)).collect()).collect(),
        ),
    ];
    let log = |rate: &f64| rate.is_finite().then(|| rate.log10());
    let panel = |((title, _, ys), models): (&BySize<'_>, Vec<String>)| Heatmap {
        title: (*title).to_owned(),
        row_axis: String::new(),
        column_axis: "model".to_owned(),
        rows: sets.iter().map(|set| (*set).to_owned()).collect(),
        columns: models,
        values: ys.iter().map(|rates| rates.iter().map(log).collect()).collect(),
        marks: Vec::new(),
    };
    let models = [
        own.iter().map(|size| size.study.spec().model_name.clone()).collect(),
        paper.iter().map(|(model, _)| (*model).to_owned()).collect(),
    ];
    let heatmaps: Vec<Heatmap> = panels.iter().zip(models).map(panel).collect();
    let all = || panels.iter().flat_map(|(.., ys)| ys.iter().flatten()).filter_map(log);
    let picture = Heatmaps {
        panels: heatmaps,
        across: 2,
        scale: (all().fold(0.0, f64::min), all().fold(-9.0, f64::max)),
        measure: "log₁₀ of the rate".to_owned(),
        decimals: 2,
        reversed: false,
    };
    let rows: Vec<(&str, f64, &str, f64)> = panels
        .iter()
        .flat_map(|(of, x, ys)| {
            sets.iter()
                .zip(ys)
                .flat_map(move |(set, rates)| x.iter().zip(rates).map(move |(x, lr)| (*of, *x, *set, *lr)))
        })
        .collect();
    let data = Table::new(name, "Learning rates of fine-tuning that were chosen, by size")
        .with(Column::text("of", rows.iter().map(|r| r.0)))
        .with(Column::count("parameters", rows.iter().map(|r| r.1 as u64)))
        .with(Column::text("dataset", rows.iter().map(|r| r.2)))
        .with(Column::number("lr", Format::Scientific(1), rows.iter().map(|r| r.3.is_finite().then_some(r.3))));
    Ok(Figure::new(data, picture))
}

impl Question for Table7 {
    fn name(&self) -> &str {
        "table7"
    }

    fn check(&self, study: &Study) -> Result<(), Error> {
        check(study, "table7")
    }

    fn needs(&self, graph: &mut Graph<'_>) -> Result<(), Error> {
        needs(graph)
    }

    fn answer(&self, name: &str, graph: &mut Graph<'_>) -> Result<Page, Error> {
        let sizes = tried(graph)?;
        let study = graph.study();
        let mut page = Page::new(&format!("{}: learning rates that were chosen", super::heading(name)));
        page.asked = "Which learning rate is fine-tuned with, at each size and on each set?".to_owned();
        page.found = vec![edges(&sizes)];
        let mixes = tried_on(study, &sizes);
        let rows: Vec<(&str, &str)> = study
            .sets()
            .flat_map(|set| mixes.iter().map(move |mix| (study[set].name.as_str(), mix.as_str())))
            .collect();
        let mix = Column::text("mix", rows.iter().map(|(_, mix)| *mix));
        let mut table = Table::new(name, "Peak learning rates of fine-tuning, by set and size")
            .with(Column::text("dataset", rows.iter().map(|(set, _)| *set)).heading("set"))
            .with(if mixes.len() > 1 { mix } else { mix.documents_only() });
        for size in &sizes {
            let model = &size.study.spec().model_name;
            let chosen = |(set, mix): &(&str, &str)| size.chosen(mix, set);
            let rates = rows.iter().map(|row| chosen(row).map(|(rate, _)| rate));
            let edge = rows.iter().map(|row| chosen(row).is_some_and(|(_, at_edge)| at_edge));
            let column = Column::number(&named("lr", model), Format::Scientific(1), rates);
            table = table.with(column.heading(model).absent("failed").marked(edge));
            if rows.iter().any(|(set, _)| papers(model, set).is_some()) {
                let printed = rows.iter().map(|(set, _)| papers(model, set));
                let column = Column::number(&named("paper", model), Format::Scientific(1), printed);
                table = table.with(column.heading("paper"));
            }
        }
        page.tables = vec![table.note("* or bold: at the edge of all that were tried; a better one may lie beyond.")];
        page.details = vec![grid("sweep", study, &sizes)];
        page.figures = vec![by_size(name, study, &sizes)?];
        page.notes = vec![format!("Fine-tuning rates: {}.", crate::recipe::rates(study))];
        Ok(page)
    }

    fn on_stated(&self, name: &str, study: &Study, _: &Plan) -> Result<Page, Error> {
        let sets: Vec<SetId> = study.sets().collect();
        let title =
            format!("{}: the rates that the paper chose; without data none is chosen here", super::heading(name));
        let labels = Column::text("dataset", sets.iter().map(|set| study[*set].name.as_str())).heading("set");
        let models = study.sizes().map(|size| study[size].spec().model_name.as_str());
        let table = models.fold(Table::new(name, &title).with(labels), |table, model| {
            let printed = sets.iter().map(|set| papers(model, &study[*set].name));
            table.with(Column::number(&named("paper", model), Format::Scientific(1), printed).heading(model))
        });
        Ok(table.into())
    }
}
