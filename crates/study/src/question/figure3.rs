//! Does proximity advantage predict what midtraining gains? (Section 5.1; Figure 3.)

use forgetting_eval::{Crossed, Influence, Summary, leave_one_pair_out, pearson, relative_improvement, spearman};
use report::{Column, Dot, Estimate, Figure, Format, Page, Scatter, ScatterPanel, Table};

use super::comparison::{self, ALONE, Difference, LEVEL, Unit, unit};
use super::losses::{self, Loss, Losses, OfSize};
use super::table8::names;
use super::{Question, proximity};
use crate::graph::Graph;
use crate::{ArmId, Error, SetId, Study};

/// Permutations of the mixes' labels: all of them up to seven mixes, so many drawn at random of more.
pub(super) const PERMUTATIONS: usize = 10_000;

/// A mix and a fine-tuning set.
struct Pair {
    arm: ArmId,
    set: SetId,
    /// With its interval over documents.
    advantage: Estimate,
    /// With the interval of the difference in losses, relative to the control's mean loss.
    improvement: Estimate,
}

/// Figure 3: proximity advantage and relative improvement of every (mix, fine-tuning set) but the control's, at every size and by
/// both ways to measure proximity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Figure3;

impl Question for Figure3 {
    fn name(&self) -> &str {
        "figure3"
    }

    fn needs(&self, graph: &mut Graph<'_>) -> Result<(), Error> {
        proximity::job(graph);
        losses::needs_at_each_size(graph, losses::EVERY)
    }

    fn answer(&self, name: &str, graph: &mut Graph<'_>) -> Result<Page, Error> {
        let closeness = proximity::closeness(graph)?;
        let sizes = losses::at_each_size(graph, losses::EVERY)?;
        let study = graph.study();
        let mut groups = Vec::new();
        for size in &sizes {
            for variant in [Variant::Controlled, Variant::Paper] {
                groups.push(Group::of(size, variant, &closeness)?);
            }
        }
        let several = sizes.len() > 1;
        let mut page = Page::new(&format!("{} ({})", super::heading(name), names(&sizes)));
        page.asked = format!(
            "Do mixes that are closer to a fine-tuning set than {} lower the loss on it more?",
            study[study.control()].name()
        );
        let controlled = || groups.iter().filter(|group| group.variant == Variant::Controlled);
        for group in controlled() {
            let model = if several { format!("{}: ", group.size.study.spec().model_name) } else { String::new() };
            page.found.extend(group.correlations.sentences().into_iter().map(|line| format!("{model}{line}")));
        }
        page.found.push(conclude(study, &groups));
        page.figures = vec![figure(name, study, &closeness, &groups)];
        page.tables = vec![table("correlation", TITLE, &groups, |row| row.set.is_none())];
        page.details = vec![table("correlation_by_set", "The same, set by set", &groups, |row| row.set.is_some())];
        // Of several sizes these are too many to be read in a row.
        let shown = if several { &mut page.details } else { &mut page.tables };
        shown.push(points(name, study, &groups));
        page.notes = vec![
            "Every mix is measured on every set, so that the pairs are not independent: what is peculiar to a mix is in its values \
             on all sets, and the mixes of a set share its control. Correlations of all pairs therefore have neither p nor interval. \
             The test standardises both values within each set, or ranks them, and exchanges whole mixes, on all sets together. It \
             supposes that mixes could be exchanged: mixes that share a source cannot (then there is no p), and where shares differ \
             much, so do the scales of both values: then the p of ranks is the one to read."
                .to_owned(),
            format!("Improvements are means over seeds. {}", unit(study)),
        ];
        let tested = groups.iter().any(|group| group.correlations.are_tested());
        page.notes.extend(controlled().filter_map(|group| group.correlations.left_out.clone()));
        let mixed: Vec<ArmId> = study.treated().filter(|arm| is_mixed(study, *arm)).collect();
        let ratio = ratio_of_shares(study, &mixed);
        if tested && ratio > 1.5 {
            page.notes.push(format!(
                "The mixes' shares differ up to {ratio:.1}-fold. How often p is at most 5 % without any relation then depends on which \
                 mixes weigh most; in simulations of five mixes, of standardised values 6 % with the paper's shares (4-fold), 10 % with one \
                 mix of five times the others' share and 16 % with one of twenty times; of ranks 5 % in all of these."
            ));
        }
        if several {
            page.notes.push(
                "Sizes are not independent of each other: they are trained on the same text in the same order, with the same proximity \
                 advantages."
                    .to_owned(),
            );
        }
        for size in &sizes {
            let model = if several { format!("{}: ", size.study.spec().model_name) } else { String::new() };
            let detectable = comparison::detectable(size.study, &comparison::rows(size.study, &size.losses)?);
            page.notes.extend(detectable.into_iter().map(|line| format!("{model}{line}")));
            page.found.extend(size.losses.failures().into_iter().map(|line| format!("{model}{line}")));
            let name = if several { size.study.spec().model_name.as_str() } else { "" };
            page.details.extend(size.losses.details_of(name));
        }
        Ok(page)
    }
}

/// What may and what may not be concluded from the seeds that there were.
fn conclude(study: &Study, groups: &[Group<'_>]) -> String {
    let has_r = |group: &Group<'_>| group.correlations.row(RAW).is_some_and(|row| row.value.is_some());
    if !groups.iter().any(has_r) {
        return "Without a correlation nothing may be concluded of what proximity predicts.".to_owned();
    }
    match Unit::of(study) {
        Unit::Pretraining => format!(
            "With {} pretraining seeds it may be concluded how these {} mixes order on these sets in runs on this corpus; whether other mixes \
             would order the same way may be concluded only as far as these stand for them.",
            study.spec().pretrain_seeds,
            study.treated().filter(|arm| is_mixed(study, *arm)).count()
        ),
        _ => "With one pretraining seed it may be concluded how improvement and proximity advantage go together for these models; whether \
              other runs of the same mixes would order the same way, or other mixes, may not."
            .to_owned(),
    }
}

/// How proximity advantage is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Variant {
    /// Every side at the same number of tokens.
    Controlled,
    /// Corpora as they are, as the paper does.
    Paper,
}

impl Variant {
    fn name(self) -> &'static str {
        match self {
            Self::Controlled => "controlled",
            Self::Paper => "paper",
        }
    }
}

/// The pairs of a size, by one way to measure proximity.
struct Group<'a> {
    size: &'a OfSize<'a>,
    variant: Variant,
    pairs: Vec<Pair>,
    correlations: Correlations,
}

impl<'a> Group<'a> {
    fn of(size: &'a OfSize<'a>, variant: Variant, closeness: &proximity::Closeness) -> Result<Self, Error> {
        let pairs = pairs(size.study, variant, closeness, &size.losses)?;
        let correlations = Correlations::of(size.study, &pairs);
        Ok(Self { size, variant, pairs, correlations })
    }

    fn model(&self) -> &str {
        &self.size.study.spec().model_name
    }
}

/// What a mix has more of than the control, in shares of all tokens from the start of its first phase on.
fn mixed_in(study: &Study, arm: ArmId) -> Vec<(&str, f64)> {
    let exposure = |arm: ArmId| study[arm].timeline().exposure(study.spec().pretrain.batch);
    let control = exposure(study.control());
    let of_control = |name: &str| control.iter().find(|(known, _)| *known == name).map_or(0.0, |(_, share)| *share);
    let more = exposure(arm).into_iter().map(|(name, share)| (name, share - of_control(name)));
    more.filter(|(_, share)| *share > 1e-9).collect()
}

/// All of it.
fn share(study: &Study, arm: ArmId) -> f64 {
    mixed_in(study, arm).iter().map(|(_, share)| share).sum()
}

/// Whether anything is mixed in at all: an arm of weight 0 is the control once more.
pub(super) fn is_mixed(study: &Study, arm: ArmId) -> bool {
    !mixed_in(study, arm).is_empty()
}

/// The largest share of a mix, as a multiple of the smallest.
fn ratio_of_shares(study: &Study, arms: &[ArmId]) -> f64 {
    let shares = || arms.iter().map(|arm| share(study, *arm));
    shares().fold(0.0, f64::max) / shares().fold(f64::INFINITY, f64::min)
}

/// A mix's proximity advantage towards a set, with its interval over documents where the variant has one.
pub(super) fn advantage(variant: Variant, closeness: &proximity::Closeness, arm: ArmId, set: SetId) -> Estimate {
    match variant {
        Variant::Controlled => {
            let advantage = &proximity::advantage(closeness, arm, set).advantage;
            Estimate { value: advantage.value(), interval: advantage.interval(LEVEL) }
        }
        Variant::Paper => Estimate::from(closeness.observed.advantages[arm.place()][set.place()]),
    }
}

/// Every mix and set of which both the mix's and the control's fine-tunes have results.
fn pairs(
    study: &Study,
    variant: Variant,
    closeness: &proximity::Closeness,
    losses: &Losses,
) -> Result<Vec<Pair>, Error> {
    let mean = |arm, set| losses.values(arm, set, |m| Loss::Sft.of(m)).map(|values| Summary::of(&values).mean);
    let mut pairs = Vec::new();
    for set in study.sets() {
        for arm in study.treated().filter(|arm| is_mixed(study, *arm)) {
            let (Some(base), Some(loss)) = (mean(study.control(), set), mean(arm, set)) else { continue };
            let difference = Difference::of(study, losses, (arm, study.control()), set, Loss::Sft)?;
            pairs.push(Pair {
                arm,
                set,
                advantage: advantage(variant, closeness, arm, set),
                improvement: Estimate {
                    value: relative_improvement(base, loss),
                    interval: difference.and_then(|d| d.interval()).map(|(low, high)| (-high / base, -low / base)),
                },
            });
        }
    }
    Ok(pairs)
}

/// Every pair of every group.
fn columns(table: Table, study: &Study, groups: &[Group<'_>]) -> Table {
    let six = Format::Signed(4);
    let rows: Vec<(&Group<'_>, &Pair)> =
        groups.iter().flat_map(|group| group.pairs.iter().map(move |pair| (group, pair))).collect();
    let pairs = || rows.iter().map(|(_, pair)| *pair);
    let model = Column::text("model", rows.iter().map(|(group, _)| group.model()));
    let several = groups.iter().any(|group| group.model() != groups[0].model());
    table
        .with(if several { model } else { model.file_only() })
        .with(Column::text("variant", rows.iter().map(|(group, _)| group.variant.name())))
        .with(Column::text("dataset", pairs().map(|p| study[p.set].name.as_str())).heading("set"))
        .with(Column::text("mix", pairs().map(|p| study[p.arm].name())))
        .with(Column::number("proximity_advantage", six, pairs().map(|p| p.advantage.value)).heading("PA"))
        .with(
            Column::interval("pa_ci", six, pairs().map(|p| p.advantage.interval))
                .heading("95 % interval")
                .documents_only(),
        )
        .with(Column::number("improvement", six, pairs().map(|p| p.improvement.value)))
        .with(
            Column::interval("improvement_ci", six, pairs().map(|p| p.improvement.interval))
                .heading("its 95 % interval")
                .documents_only(),
        )
        .with(Column::text("pa_unit", pairs().map(|p| p.advantage.interval.map_or("", |_| "documents"))).file_only())
        .with(
            Column::text("unit", pairs().map(|p| p.improvement.interval.map_or("", |_| Unit::of(study).name())))
                .file_only(),
        )
        .with(Column::text("family", pairs().map(|_| ALONE)).file_only())
}

fn points(name: &str, study: &Study, groups: &[Group<'_>]) -> Table {
    let title = "Proximity advantage (Eq. 6) and relative improvement of each mix on each set";
    columns(Table::new(name, title), study, groups).grouped().note(format!(
        "Intervals of PA are over documents, those of improvements over {}. Variants: controlled compares the same number of tokens on \
         every side; paper takes corpora as they are, so that their sizes shift it, and has no interval.",
        Unit::of(study).name()
    ))
}

fn figure(name: &str, study: &Study, closeness: &proximity::Closeness, groups: &[Group<'_>]) -> Figure {
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
        pale: is_near_zero(p.advantage),
    };
    let panel = |group: &Group<'_>| {
        let r = group.correlations.row(RAW).and_then(|row| row.value);
        let r = r.map_or_else(String::new, |r| format!(", r = {r:+.2}"));
        ScatterPanel {
            title: format!("{}, PA {}{r}", group.model(), group.variant.name()),
            x_axis: match group.variant {
                Variant::Controlled => format!("proximity advantage, every side at {} tokens", closeness.basis.budget),
                Variant::Paper => "proximity advantage, corpora as they are".to_owned(),
            },
            dots: group.pairs.iter().map(dot).collect(),
        }
    };
    let picture = Scatter {
        panels: groups.iter().map(panel).collect(),
        across: 2,
        y_axis: format!("improvement over {}, %", study[study.control()].name()),
        colours: ("fine-tuning set".to_owned(), study.spec().sft.sets.iter().map(|s| s.name.clone()).collect()),
        shapes: ("midtraining mix".to_owned(), shapes.iter().map(|arm| study[*arm].name().to_owned()).collect()),
    };
    let title = "Proximity advantage and improvement of the fine-tuned loss by midtraining";
    Figure::new(columns(Table::new(name, title), study, groups), picture).subtitle([
        format!(
            "Lines: 95 % intervals, of PA over documents, of improvements over {}. r: over all pairs, without p.",
            Unit::of(study).name()
        ),
        format!("Grey: PA whose interval holds 0, or, without one, below {NEAR_ZERO}; they count in r."),
    ])
}

/// A PA without an interval is near 0 below this.
const NEAR_ZERO: f64 = 0.005;

fn is_near_zero(advantage: Estimate) -> bool {
    advantage.interval.map_or(advantage.value.abs() < NEAR_ZERO, |(low, high)| low <= 0.0 && high >= 0.0)
}

/// How proximity advantage and improvement go together, by several ways to look at it.
struct Correlations {
    rows: Vec<Row>,
    /// Mixes that the test has to do without.
    left_out: Option<String>,
}

#[derive(Default)]
struct Row {
    name: String,
    /// Of one set alone.
    set: Option<SetId>,
    value: Option<f64>,
    n: usize,
    interval: Option<(f64, f64)>,
    p: Option<f64>,
    least_p: Option<f64>,
    /// Without one pair: the lowest and highest value, and the pair that matters most with the value without it.
    without_one: Option<(f64, f64)>,
    most_influential: Option<(String, f64)>,
    unit: &'static str,
    how: String,
}

const RAW: &str = "Pearson r";
const WITHIN: &str = "Pearson r within sets";
const RANKS_WITHIN: &str = "Spearman rho within sets";

/// What is done to values within each set.
type Standardise = fn(&Crossed) -> Result<Crossed, forgetting_eval::Error>;

impl Correlations {
    fn of(study: &Study, pairs: &[Pair]) -> Self {
        let named = |pair: &Pair| format!("{} on {}", study[pair.arm].name(), study[pair.set].name);
        let (x, y): (Vec<f64>, Vec<f64>) = pairs.iter().map(|p| (p.advantage.value, p.improvement.value)).unzip();
        let raw = Row { name: RAW.to_owned(), n: pairs.len(), how: "over all pairs".to_owned(), ..Row::default() };
        let raw = match pearson(&x, &y) {
            Ok(found) if found.n < 3 => Row { how: "two pairs lie on a line whatever they are".to_owned(), ..raw },
            Ok(found) => {
                Row { value: Some(found.r), ..raw }.with(leave_one_pair_out(&x, &y).ok(), |i| named(&pairs[i]))
            }
            Err(reason) => Row { how: reason.to_string(), ..raw },
        };
        let ranked =
            Row { name: "Spearman rho".to_owned(), n: pairs.len(), how: "over all pairs".to_owned(), ..Row::default() };
        let ranked = match spearman(&x, &y) {
            Ok(found) if found.n < 3 => Row { how: "two pairs lie on a line whatever they are".to_owned(), ..ranked },
            Ok(found) => Row { value: Some(found.rho), ..ranked },
            Err(reason) => Row { how: reason.to_string(), ..ranked },
        };
        let (within, left_out) = Self::within_sets(study, pairs);
        let mut rows = vec![raw, ranked];
        rows.extend(within);
        let mixed: Vec<ArmId> = study.treated().filter(|arm| is_mixed(study, *arm)).collect();
        let own = have_sources_of_their_own(study, &mixed);
        rows.extend(study.sets().map(|set| of_set(study, pairs, set, own)));
        Self { rows, left_out }
    }

    /// Standardised within sets, and tested by exchanging mixes on all sets together.
    fn within_sets(study: &Study, pairs: &[Pair]) -> (Vec<Row>, Option<String>) {
        let of = |arm, set| pairs.iter().find(|p| p.arm == arm && p.set == set);
        let sets: Vec<SetId> = study.sets().filter(|set| pairs.iter().any(|p| p.set == *set)).collect();
        let (whole, lacking): (Vec<ArmId>, Vec<ArmId>) = study
            .treated()
            .filter(|arm| is_mixed(study, *arm))
            .partition(|arm| sets.iter().all(|set| of(*arm, *set).is_some()));
        let values = |value: fn(&Pair) -> f64| -> Vec<Vec<f64>> {
            whole.iter().map(|arm| sets.iter().filter_map(|set| of(*arm, *set)).map(value).collect()).collect()
        };
        let n = whole.len() * sets.len();
        let row = |name: &str| Row { name: name.to_owned(), n, unit: "mixes", ..Row::default() };
        let tests: [(&str, &str, Standardise); 2] =
            [(WITHIN, "z-scores", Crossed::standardised), (RANKS_WITHIN, "ranks", Crossed::ranked)];
        let rows = tests.map(|(name, what, standardise)| match whole.len() {
            0..3 => Row {
                how: "fewer than three mixes cannot be told from each other by exchanging them".to_owned(),
                ..row(name)
            },
            _ => {
                let crossed = Crossed::new(values(|p| p.advantage.value), values(|p| p.improvement.value));
                let crossed = crossed.and_then(|crossed| standardise(&crossed));
                Self::exchanged(study, row(name), what, crossed, (&whole, &sets))
            }
        });
        let names: Vec<&str> = lacking.iter().map(|arm| study[*arm].name()).collect();
        let left_out = (!names.is_empty())
            .then(|| format!("Without a result on every set, and so not in the test: {}.", names.join(", ")));
        (rows.into(), left_out)
    }

    /// r within sets, and what exchanging mixes makes of it.
    fn exchanged(
        study: &Study,
        row: Row,
        what: &str,
        crossed: Result<Crossed, forgetting_eval::Error>,
        (whole, sets): (&[ArmId], &[SetId]),
    ) -> Row {
        let seed = study.seed("permutations of mixes", 0);
        let tested = crossed
            .and_then(|crossed| Ok((crossed.permute_arms(PERMUTATIONS, seed)?, crossed.leave_one_pair_out().ok())));
        let (test, influence) = match tested {
            Ok(tested) => tested,
            Err(forgetting_eval::Error::Block { block, .. }) => {
                let set = sets.get(block).map_or("a set", |set| study[*set].name.as_str());
                return Row { how: format!("on {set} proximity advantage or improvement does not vary"), ..row };
            }
            Err(reason) => return Row { how: reason.to_string(), ..row },
        };
        let name =
            |i: usize| format!("{} on {}", study[whole[i / sets.len()]].name(), study[sets[i % sets.len()]].name);
        let count = test.permuted.len();
        let drawn = if test.complete { format!("all {count} permutations") } else { format!("{count} permutations") };
        let row = Row { value: Some(test.r), ..row }.with(influence, name);
        if !have_sources_of_their_own(study, whole) {
            return Row { how: format!("{what} within each set; no p, because mixes share a source"), ..row };
        }
        let how = format!("{what} within each set; {drawn} of the {} mixes, on all sets together", whole.len());
        Row { p: Some(test.p()), least_p: Some(test.least_p()), how, ..row }
    }

    fn are_tested(&self) -> bool {
        self.rows.iter().any(|row| row.p.is_some())
    }

    fn row(&self, name: &str) -> Option<&Row> {
        self.rows.iter().find(|r| r.name == name)
    }

    fn sentences(&self) -> Vec<String> {
        let (Some(raw), Some(within)) = (self.row(RAW), self.row(WITHIN)) else { return Vec::new() };
        let Some(r) = raw.value else { return vec![format!("No correlation: {}.", raw.how)] };
        let influence = raw.most_influential.as_ref();
        let influence = influence.map_or_else(String::new, |(pair, r)| format!(" ({r:+.2} without {pair})"));
        let mut lines = vec![format!("Pearson r = {r:+.2} over {} pairs of a mix and a set{influence}.", raw.n)];
        let ranks = self.row(RANKS_WITHIN).and_then(|row| row.value.zip(row.p));
        let ranks =
            ranks.map_or_else(String::new, |(rho, p)| format!("; of ranks within sets rho = {rho:+.2}, p = {p:.4}"));
        lines.push(match (within.value, within.p, within.least_p) {
            (Some(r), None, _) => format!("Standardised within sets: r = {r:+.2} ({}).", within.how),
            (Some(r), Some(p), Some(least)) => format!(
                "Standardised within sets: r = {r:+.2}, p = {p:.4} by exchanging mixes on all sets together ({least:.4} is the lowest \
                 p that these values allow){ranks}."
            ),
            _ => format!("Not tested: {}.", within.how),
        });
        lines
    }
}

const TITLE: &str = "Correlation of proximity advantage and improvement";

/// These correlations of every group.
fn table(name: &str, title: &str, groups: &[Group<'_>], shown: fn(&Row) -> bool) -> Table {
    let all: Vec<(&Group<'_>, &Row)> = groups
        .iter()
        .flat_map(|group| group.correlations.rows.iter().map(move |row| (group, row)))
        .filter(|(_, row)| shown(row))
        .collect();
    let rows = || all.iter().map(|(_, row)| *row);
    let model = Column::text("model", all.iter().map(|(group, _)| group.model()));
    let several = groups.iter().any(|group| group.model() != groups[0].model());
    let signed = Format::Signed(3);
    Table::new(name, title)
        .with(if several { model } else { model.file_only() })
        .with(Column::text("variant", all.iter().map(|(group, _)| group.variant.name())))
        .with(Column::text("statistic", rows().map(|r| r.name.as_str())))
        .with(Column::number("value", signed, rows().map(|r| r.value)))
        .with(Column::count("n", rows().map(|r| r.n as u64)).meaning("pairs of a mix and a set"))
        .with(
            Column::interval("ci", signed, rows().map(|r| r.interval))
                .heading("95 % interval")
                .meaning("of one set: over its mixes (Bonett and Wright 2000); correlations of all pairs have none"),
        )
        .with(
            Column::number("p", Format::Probability, rows().map(|r| r.p))
                .meaning("two-sided, from exchanging mixes on all sets together; correlations of all pairs have none"),
        )
        .with(
            Column::number("p_least", Format::Probability, rows().map(|r| r.least_p))
                .heading("least p")
                .documents_only()
                .meaning("the lowest p that these values allow: with k mixes 1/k! at best"),
        )
        .with(
            Column::interval("without_one", signed, rows().map(|r| r.without_one))
                .heading("without one pair")
                .documents_only()
                .meaning("the lowest and the highest value with one pair left out"),
        )
        .with(
            Column::text("most_influential", rows().map(|r| r.most_influential.as_ref().map_or("", |(name, _)| name)))
                .heading("most influential pair")
                .documents_only(),
        )
        .with(
            Column::number("without_most_influential", signed, rows().map(|r| Some(r.most_influential.as_ref()?.1)))
                .heading("value without it")
                .documents_only(),
        )
        .with(Column::text("unit", rows().map(|r| r.unit)).file_only())
        .with(Column::text("family", rows().map(Row::family)).file_only())
        .with(Column::text("how", rows().map(|r| r.how.as_str())).documents_only())
}

/// Whether no two of these mixes have more than the control of the same source, so that they can be exchanged.
pub(super) fn have_sources_of_their_own(study: &Study, arms: &[ArmId]) -> bool {
    let sources: Vec<&str> = arms.iter().flat_map(|arm| mixed_in(study, *arm)).map(|(source, _)| source).collect();
    sources.iter().all(|source| sources.iter().filter(|other| *other == source).count() == 1)
}

impl Row {
    fn family(&self) -> &'static str {
        match (self.p, self.interval) {
            (Some(_), _) => "two tests of one hypothesis, each alone",
            (None, Some(_)) => ALONE,
            (None, None) => "",
        }
    }

    fn with(self, influence: Option<Influence>, name: impl Fn(usize) -> String) -> Self {
        let most = influence.as_ref().map(|i| (name(i.most_influential), i.without_most_influential()));
        Self { without_one: influence.map(|i| i.range()), most_influential: most, ..self }
    }
}

/// Ranks of the mixes of one set: these are independent of each other where each has sources of its own.
fn of_set(study: &Study, pairs: &[Pair], set: SetId, independent: bool) -> Row {
    let of_set = || pairs.iter().filter(move |p| p.set == set);
    let x: Vec<f64> = of_set().map(|p| p.advantage.value).collect();
    let y: Vec<f64> = of_set().map(|p| p.improvement.value).collect();
    let name = format!("Spearman rho, {}", study[set].name);
    let how = "over the mixes of the set".to_owned();
    let row = Row { name, set: Some(set), n: x.len(), unit: "mixes", how, ..Row::default() };
    match spearman(&x, &y) {
        // Where all ranks agree the interval would have no width, by its formula alone.
        Ok(found) if found.rho.abs() > 1.0 - 1e-12 => Row {
            value: Some(found.rho),
            how: "over the mixes of the set; no interval, all ranks agree".to_owned(),
            ..row
        },
        Ok(found) if !independent => Row {
            value: Some(found.rho),
            how: "over the mixes of the set; no interval, mixes share a source".to_owned(),
            ..row
        },
        Ok(found) => Row { value: Some(found.rho), interval: found.interval(LEVEL), ..row },
        Err(reason) => Row { how: reason.to_string(), ..row },
    }
}
