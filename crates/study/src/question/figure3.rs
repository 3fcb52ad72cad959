//! Does proximity advantage predict what midtraining gains? (Section 5.1; Figure 3.)

use forgetting_eval::{
    Block, Correlation, Paired, Summary, block_permutation_p, cluster_bootstrap, pearson, pearson_within_blocks,
    relative_improvement, spearman,
};
use report::{Column, Dot, Estimate, Figure, Format, Page, Scatter, Table};

use super::comparison::{LEVEL, unit};
use super::losses::{self, Losses};
use super::{Question, proximity};
use crate::graph::Graph;
use crate::{ArmId, Error, SetId, Study};

/// Shuffles and draws.
const PERMUTATIONS: usize = 10_000;
const RESAMPLES: usize = 2_000;

/// A mix and a fine-tuning set.
struct Pair {
    arm: ArmId,
    set: SetId,
    /// With its interval over documents.
    advantage: Estimate,
    noise_floor: Option<f64>,
    /// With its interval over seeds: that of the difference in losses, relative to the control's mean loss.
    improvement: Estimate,
}

/// Figure 3: proximity advantage and relative improvement of every (mix, fine-tuning set) but the control's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Figure3;

impl Question for Figure3 {
    fn name(&self) -> &str {
        "figure3"
    }

    fn needs(&self, graph: &mut Graph<'_>) -> Result<(), Error> {
        proximity::job(graph);
        losses::needs(graph)
    }

    fn answer(&self, name: &str, graph: &mut Graph<'_>) -> Result<Page, Error> {
        let closeness = proximity::closeness(graph)?;
        let losses = Losses::of(graph)?;
        let study = graph.study();
        let pairs = pairs(study, &closeness, &losses);
        let correlations = Correlations::of(study, &pairs);
        let mut page = Page::new(&format!("{} ({})", super::heading(name), study.spec().model_name));
        page.asked = format!(
            "Do mixes that are closer to a fine-tuning set than {} lower the loss on it more?",
            study[study.control()].name()
        );
        page.found = correlations.sentences();
        page.figures = vec![figure(name, study, &closeness, &pairs).subtitle(correlations.sentences())];
        page.tables = vec![correlations.table(), points(name, study, &pairs)];
        page.notes = vec![
            "The plain interval and p take all pairs for independent. The mixes of one fine-tuning set share its control and \
             its scale, so that they are not: the interval of the cluster bootstrap draws whole sets, and the permutation p \
             shuffles improvements within each set."
                .to_owned(),
            format!(
                "Improvements are means over {} pretraining × {} fine-tuning seeds. {}",
                study.spec().pretrain_seeds,
                study.spec().sft_seeds,
                unit(study)
            ),
        ];
        page.found.extend(losses.failures());
        page.details = losses.details();
        Ok(page)
    }
}

/// Every mix and set of which both the mix's and the control's fine-tunes have results.
fn pairs(study: &Study, closeness: &proximity::Closeness, losses: &Losses) -> Vec<Pair> {
    let values = |arm, set| losses.values(arm, set, |m| m.sft_loss);
    let mut pairs = Vec::new();
    for set in study.sets() {
        for arm in study.treated() {
            let (Some(control), Some(loss)) = (values(study.control(), set), values(arm, set)) else { continue };
            let a = proximity::advantage(study, closeness, arm, set);
            let base = Summary::of(&control).mean;
            let difference = Paired::of(&loss, &control).ok().and_then(|p| p.summary.interval(LEVEL));
            pairs.push(Pair {
                arm,
                set,
                advantage: Estimate { value: a.value, interval: a.interval },
                noise_floor: a.noise_floor,
                improvement: Estimate {
                    value: relative_improvement(base, Summary::of(&loss).mean),
                    interval: difference.map(|(low, high)| (-high / base, -low / base)),
                },
            });
        }
    }
    pairs
}

fn columns(table: Table, study: &Study, pairs: &[Pair]) -> Table {
    let six = Format::Signed(4);
    table
        .with(Column::text("dataset", pairs.iter().map(|p| study[p.set].name.as_str())).heading("set"))
        .with(Column::text("mix", pairs.iter().map(|p| study[p.arm].name())))
        .with(Column::number("proximity_advantage", six, pairs.iter().map(|p| p.advantage.value)).heading("PA"))
        .with(Column::interval("pa_ci", six, pairs.iter().map(|p| p.advantage.interval)).heading("95 % interval"))
        .with(Column::number("noise_floor", Format::Fixed(4), pairs.iter().map(|p| p.noise_floor)).documents_only())
        .with(Column::number("improvement", six, pairs.iter().map(|p| p.improvement.value)))
        .with(
            Column::interval("improvement_ci", six, pairs.iter().map(|p| p.improvement.interval))
                .heading("its 95 % interval")
                .documents_only(),
        )
}

fn points(name: &str, study: &Study, pairs: &[Pair]) -> Table {
    let title = "Proximity advantage (Eq. 6) and relative improvement of each mix on each set";
    columns(Table::new(name, title), study, pairs)
        .grouped()
        .note("Intervals of PA are over documents, those of improvements over seeds.")
}

fn figure(name: &str, study: &Study, closeness: &proximity::Closeness, pairs: &[Pair]) -> Figure {
    let shapes: Vec<ArmId> = study.treated().collect();
    let percent = |e: Estimate| Estimate {
        value: 100.0 * e.value,
        interval: e.interval.map(|(low, high)| (100.0 * low, 100.0 * high)),
    };
    let dot = |p: &Pair| Dot {
        x: p.advantage,
        y: percent(p.improvement),
        colour: p.set.place(),
        shape: shapes.iter().position(|arm| *arm == p.arm).unwrap_or(0),
    };
    let picture = Scatter {
        x_axis: format!("proximity advantage of the mix towards the set, every side at {} tokens", closeness.budget),
        y_axis: format!("improvement over {} in fine-tuned loss, %", study[study.control()].name()),
        dots: pairs.iter().map(dot).collect(),
        colours: ("fine-tuning set".to_owned(), study.spec().sft.sets.iter().map(|s| s.name.clone()).collect()),
        shapes: ("midtraining mix".to_owned(), shapes.iter().map(|arm| study[*arm].name().to_owned()).collect()),
    };
    let title = format!("Proximity advantage and improvement by midtraining ({})", study.spec().model_name);
    Figure::new(columns(Table::new(name, &title), study, pairs), picture)
        .subtitle(["Lines: 95 % intervals, of PA over documents, of improvements over seeds.".to_owned()])
}

/// How proximity advantage and improvement go together, by several ways to look at it.
struct Correlations {
    rows: Vec<Row>,
}

struct Row {
    name: &'static str,
    r: Option<f64>,
    n: usize,
    p: Option<f64>,
    interval: Option<(f64, f64)>,
    how: String,
}

impl Correlations {
    fn of(study: &Study, pairs: &[Pair]) -> Self {
        // The mixes of a set share its control, its examples and its scale: they are one block.
        let block = |set: SetId| {
            let of_set = || pairs.iter().filter(move |p| p.set == set);
            Block {
                x: of_set().map(|p| p.advantage.value).collect(),
                y: of_set().map(|p| p.improvement.value).collect(),
            }
        };
        let blocks: Vec<Block> = study.sets().map(block).filter(|b: &Block| !b.x.is_empty()).collect();
        let seed = study.seed("resampling of correlations", 0);
        let Block { x, y } = Block::pooled(&blocks);
        let row = |name, found: &Result<Correlation, forgetting_eval::Error>, how: &str| match found {
            Ok(c) => Row { name, r: Some(c.r), n: c.n, p: Some(c.p), interval: c.interval(LEVEL), how: how.to_owned() },
            Err(reason) => Row { name, r: None, n: x.len(), p: None, interval: None, how: reason.to_string() },
        };
        let plain = pearson(&x, &y);
        let mut rows = vec![
            row("Pearson r", &plain, "pairs taken for independent"),
            row("Spearman rho", &spearman(&x, &y), "pairs taken for independent"),
            row("Pearson r within sets", &pearson_within_blocks(&blocks), "z-scores within each set, pooled"),
        ];
        if let Ok(plain) = plain {
            let r = |drawn: &[Block]| {
                let Block { x, y } = Block::pooled(drawn);
                Ok(pearson(&x, &y)?.r)
            };
            let clustered = cluster_bootstrap(&blocks, RESAMPLES, seed, r).and_then(|b| b.interval(LEVEL));
            rows.push(Row {
                name: "Pearson r by sets",
                r: Some(plain.r),
                n: plain.n,
                p: block_permutation_p(&blocks, PERMUTATIONS, seed).ok(),
                interval: clustered.ok(),
                how: format!("{RESAMPLES} draws of whole sets; {PERMUTATIONS} shuffles within sets"),
            });
        }
        Self { rows }
    }

    fn table(&self) -> Table {
        let rows = || self.rows.iter();
        Table::new("correlation", "Correlation of proximity advantage and improvement")
            .with(Column::text("statistic", rows().map(|r| r.name)))
            .with(Column::number("value", Format::Signed(3), rows().map(|r| r.r)))
            .with(Column::interval("ci", Format::Signed(3), rows().map(|r| r.interval)).heading("95 % interval"))
            .with(Column::count("n", rows().map(|r| r.n as u64)))
            .with(Column::number("p", Format::Probability, rows().map(|r| r.p)))
            .with(Column::text("how", rows().map(|r| r.how.as_str())))
    }

    fn sentences(&self) -> Vec<String> {
        let Some(row) = self.rows.iter().find(|r| r.name == "Pearson r by sets") else {
            return vec![format!("No correlation: {}.", self.rows[0].how)];
        };
        let interval = row.interval.map_or_else(
            || "no interval: there are too few sets".to_owned(),
            |(low, high)| format!("95 % interval {low:+.2} to {high:+.2}, over fine-tuning sets"),
        );
        let p = row.p.map_or_else(String::new, |p| format!(", p = {p:.4} by shuffling within sets"));
        let r = row.r.unwrap_or(f64::NAN);
        vec![format!("Pearson r = {r:+.2} over {} pairs of a mix and a set ({interval}{p}).", row.n)]
    }
}
