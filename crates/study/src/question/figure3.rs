//! Does proximity advantage predict what midtraining gains? (Section 5.1; Figure 3.)

use forgetting_eval::{
    Block, Correlation, Summary, block_permutation_p, cluster_bootstrap, pearson, pearson_within_blocks,
    relative_improvement, spearman,
};

use super::losses::{self, Losses};
use super::{Question, ends, number, proximity, signed};
use crate::graph::Graph;
use crate::render::page::{Figure, Picture};
use crate::render::scatter::{Dot, Scatter};
use crate::{ArmId, DataTable, Error, Page, SetId};

/// Shuffles and draws.
const PERMUTATIONS: usize = 10_000;
const RESAMPLES: usize = 2_000;
const LEVEL: f64 = 0.95;

/// A mix and a fine-tuning set.
struct Pair {
    arm: ArmId,
    set: SetId,
    advantage: f64,
    noise_floor: f64,
    improvement: f64,
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

    fn answer(&self, graph: &mut Graph<'_>) -> Result<Page, Error> {
        let closeness = proximity::closeness(graph)?;
        let losses = Losses::of(graph)?;
        let mut page = page(graph, &closeness, &pairs(graph, &closeness, &losses))?;
        page.notes.extend(losses.failures());
        Ok(page)
    }
}

/// Every mix and set of which both the mix's and the control's fine-tunes have results.
fn pairs(graph: &Graph<'_>, closeness: &proximity::Closeness, losses: &Losses) -> Vec<Pair> {
    let study = graph.study();
    let mean = |arm, set| Some(Summary::of(&losses.values(arm, set, |m| m.sft_loss)?).mean);
    let mut pairs = Vec::new();
    for set in study.sets() {
        for arm in study.treated() {
            let (Some(control), Some(loss)) = (mean(study.control(), set), mean(arm, set)) else { continue };
            let a = proximity::advantage(study, closeness, arm, set);
            pairs.push(Pair {
                arm,
                set,
                advantage: a.value,
                noise_floor: a.noise_floor.unwrap_or(0.0),
                improvement: relative_improvement(control, loss),
            });
        }
    }
    pairs
}

fn page(graph: &Graph<'_>, closeness: &proximity::Closeness, pairs: &[Pair]) -> Result<Page, Error> {
    let study = graph.study();
    let spec = study.spec();
    // The mixes of a set share its control, its examples and its scale: they are one block.
    let block = |set: SetId| {
        let of_set = || pairs.iter().filter(move |p| p.set == set);
        Block { x: of_set().map(|p| p.advantage).collect(), y: of_set().map(|p| p.improvement).collect() }
    };
    let blocks: Vec<Block> = study.sets().map(block).filter(|b: &Block| !b.x.is_empty()).collect();
    let seed = study.seed("resampling of correlations", 0);
    let (table, lines) = correlations(&blocks, seed);
    let title = format!("Figure 3 ({}): proximity advantage and improvement by midtraining", spec.model_name);
    let mut points =
        DataTable::new("figure3", &title, &["dataset", "mix", "proximity_advantage", "noise_floor", "improvement"]);
    for p in pairs {
        points.rows.push(vec![
            study[p.set].name.clone(),
            study[p.arm].name().to_owned(),
            signed(p.advantage, 6),
            number(p.noise_floor, 6),
            signed(p.improvement, 6),
        ]);
    }
    let shapes: Vec<ArmId> = study.treated().collect();
    let dot = |p: &Pair| Dot {
        x: p.advantage,
        y: 100.0 * p.improvement,
        colour: p.set.place(),
        shape: shapes.iter().position(|arm| *arm == p.arm).unwrap_or(0),
        faint: p.advantage.abs() <= p.noise_floor,
    };
    let picture = Scatter {
        title: title.clone(),
        subtitle: lines,
        x_axis: format!("proximity advantage of the mix towards the set, every side at {} tokens", closeness.budget),
        y_axis: format!("improvement over {} in fine-tuned loss, %", study[study.control()].name()),
        dots: pairs.iter().map(dot).collect(),
        colours: ("fine-tuning set".to_owned(), spec.sft.sets.iter().map(|s| s.name.clone()).collect()),
        shapes: ("midtraining mix".to_owned(), shapes.iter().map(|arm| study[*arm].name().to_owned()).collect()),
    };
    let notes = vec![
        "The plain interval and p take all pairs for independent. The mixes of one fine-tuning set share its control and its \
         scale, so that they are not: the interval of the cluster bootstrap draws whole sets, and the permutation p shuffles \
         improvements within each set."
            .to_owned(),
        format!("Improvements are means over {} pretraining × {} fine-tuning seeds.", spec.pretrain_seeds, spec.sft_seeds),
    ];
    Ok(Page {
        title,
        tables: vec![points.clone(), table],
        figures: vec![Figure { name: "figure3".to_owned(), data: points, picture: Picture::Scatter(picture) }],
        notes,
        ..Page::default()
    })
}

/// As a table, and as lines for the figure.
fn correlations(blocks: &[Block], seed: u64) -> (DataTable, Vec<String>) {
    let header = ["statistic", "value", "n", "p", "low", "high", "how"];
    let mut table = DataTable::new("correlation", "Correlation of proximity advantage and improvement", &header);
    let Block { x, y } = Block::pooled(blocks);
    let mut push = |name: &str, found: &Result<Correlation, forgetting_eval::Error>, how: &str| {
        let row = match found {
            Ok(c) => {
                let [low, high] = ends(c.interval(LEVEL), 3);
                vec![signed(c.r, 3), c.n.to_string(), format!("{:.2e}", c.p), low, high, how.to_owned()]
            }
            Err(reason) => {
                vec!["–".into(), x.len().to_string(), "–".into(), "–".into(), "–".into(), reason.to_string()]
            }
        };
        table.rows.push(std::iter::once(name.to_owned()).chain(row).collect());
    };
    let plain = pearson(&x, &y);
    push("Pearson r", &plain, "pairs taken for independent");
    push("Spearman rho", &spearman(&x, &y), "pairs taken for independent");
    push("Pearson r within sets", &pearson_within_blocks(blocks), "z-scores within each set, pooled");
    let r = |drawn: &[Block]| {
        let Block { x, y } = Block::pooled(drawn);
        Ok(pearson(&x, &y)?.r)
    };
    let clustered = cluster_bootstrap(blocks, RESAMPLES, seed, r).and_then(|b| b.interval(LEVEL));
    let permuted = block_permutation_p(blocks, PERMUTATIONS, seed);
    let mut lines = Vec::new();
    match &plain {
        Ok(c) => {
            let [low, high] = ends(c.interval(LEVEL), 2);
            lines.push(format!(
                "r = {:.3}, n = {}, p = {:.1e}, 95 % interval {low} to {high} (pairs taken for independent)",
                c.r, c.n, c.p
            ));
            let [low, high] = ends(clustered.as_ref().ok().copied(), 2);
            let p = permuted.as_ref().map_or(f64::NAN, |p| *p);
            lines.push(format!("by fine-tuning sets: 95 % interval {low} to {high} (cluster bootstrap), p = {p:.1e} (permutation within sets)"));
            let [low, high] = ends(clustered.ok(), 3);
            table.rows.push(vec![
                "Pearson r by sets".into(),
                signed(c.r, 3),
                c.n.to_string(),
                format!("{p:.2e}"),
                low,
                high,
                format!("{RESAMPLES} draws of whole sets; {PERMUTATIONS} shuffles within sets"),
            ]);
        }
        Err(reason) => lines.push(format!("no correlation: {reason}")),
    }
    (table, lines)
}
