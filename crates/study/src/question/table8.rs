//! Table 8: the losses of Table 2 at every size of the study.

use report::{BarPanel, Bars, Column, Estimate, Figure, Format, Page, Table};

use super::comparison::{self, Unit, comparison_of, detectable, unit};
use super::losses::{self, EVERY, OfSize};
use super::{Question, table2};
use crate::Error;
use crate::graph::Graph;

/// The losses of every arm on every set at every size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Table8;

impl Question for Table8 {
    fn name(&self) -> &str {
        "table8"
    }

    fn needs(&self, graph: &mut Graph<'_>) -> Result<(), Error> {
        losses::needs_at_each_size(graph, EVERY)
    }

    fn answer(&self, name: &str, graph: &mut Graph<'_>) -> Result<Page, Error> {
        let sizes = losses::at_each_size(graph, EVERY)?;
        let study = graph.study();
        let control = study[study.control()].name();
        let mut page = Page::new(&format!("{} ({})", super::heading(name), names(&sizes)));
        page.asked = "Does midtraining lower the loss after fine-tuning on a domain that it resembles, at every size of the model?"
            .to_owned();
        let (mut rows, mut compared) = (Vec::new(), Vec::new());
        for size in &sizes {
            let own = table2::rows(size.study, &size.losses)?;
            let differences = comparison::rows(size.study, &size.losses)?;
            let model = &size.study.spec().model_name;
            let found = table2::found(size.study, &own, &differences, control);
            page.found.extend(found.into_iter().take(1).map(|line| format!("{model}: {line}")));
            page.found.extend(size.losses.failures().into_iter().map(|line| format!("{model}: {line}")));
            let worse = table2::worse_than_no_context(size.study, &size.losses, &own);
            let said = worse.into_iter().chain(size.losses.at_the_edge()).chain(detectable(size.study, &differences));
            page.notes.extend(said.map(|line| format!("{model}: {line}")));
            rows.extend(own);
            compared.push((size.study, differences));
        }
        page.found.push(unit(study));
        page.notes.insert(
            0,
            "Sizes differ in more than their size where their learning rates do: what was forgotten at one size is not comparable with \
             another's without them (the tables of rates name each)."
                .to_owned(),
        );
        let title = format!(
            "Losses after fine-tuning at each size, nats per token (study seed {}, {} pretraining × {} fine-tuning seeds)",
            study.spec().study_seed,
            study.spec().pretrain_seeds,
            study.spec().sft_seeds
        );
        page.tables = vec![table2::table(name, &title, &rows, control)];
        page.figures = vec![figure(name, &sizes, control)?];
        for (size, rows) in &compared {
            page.tables.push(comparison_of(size, &size.spec().model_name, rows));
        }
        page.details = sizes.iter().flat_map(|size| size.losses.details_of(&size.study.spec().model_name)).collect();
        Ok(page)
    }
}

/// The names of a study's sizes.
pub(super) fn names(sizes: &[OfSize<'_>]) -> String {
    sizes.iter().map(|size| size.study.spec().model_name.as_str()).collect::<Vec<_>>().join(", ")
}

/// One bar of the figure: a mix on a set at a size.
struct Bar {
    set: String,
    mix: String,
    model: String,
    delta: Option<Estimate>,
}

/// Each mix's change of the loss on the set, size by size.
fn figure(name: &str, sizes: &[OfSize<'_>], control: &str) -> Result<Figure, Error> {
    let Some(first) = sizes.first().map(|size| size.study) else {
        return Err(Error::field("sizes", "[]", "must hold at least one size"));
    };
    let (mut panels, mut bars) = (Vec::new(), Vec::new());
    for set in first.sets() {
        let mut groups = Vec::new();
        for arm in first.treated() {
            let mut series = Vec::new();
            for OfSize { study, losses } in sizes {
                let pair = (arm, study.control());
                let delta = comparison::Difference::of(study, losses, pair, set, losses::Loss::Sft)?;
                let delta = delta.map(|d| Estimate { value: d.seeds.mean, interval: d.interval() });
                series.push(delta);
                bars.push(Bar {
                    set: study[set].name.clone(),
                    mix: study[arm].name().to_owned(),
                    model: study.spec().model_name.clone(),
                    delta,
                });
            }
            groups.push((first[arm].name().to_owned(), series));
        }
        panels.push(BarPanel { title: first[set].name.clone(), groups });
    }
    let picture = Bars {
        axis: "nats per token".to_owned(),
        series: sizes.iter().map(|size| size.study.spec().model_name.clone()).collect(),
        panels,
    };
    let title = format!("Change of the loss on the set against {control}, at each size; lower is better");
    let change = Format::Signed(3);
    let data = Table::new(name, &title)
        .with(Column::text("dataset", bars.iter().map(|b| b.set.as_str())))
        .with(Column::text("mix", bars.iter().map(|b| b.mix.as_str())))
        .with(Column::text("model", bars.iter().map(|b| b.model.as_str())))
        .with(Column::number("sft_delta", change, bars.iter().map(|b| b.delta.map(|d| d.value))))
        .with(Column::interval("sft_delta_ci", change, bars.iter().map(|b| b.delta?.interval)))
        .with(Column::text(
            "unit",
            bars.iter().map(|b| b.delta.and_then(|d| d.interval).map_or("", |_| Unit::of(first).name())),
        ))
        .with(Column::text("family", bars.iter().map(|_| comparison::ALONE)));
    Ok(Figure::new(data, picture)
        .subtitle([format!("Lines: 95 % intervals of paired differences, over {}.", Unit::of(first).name())]))
}
