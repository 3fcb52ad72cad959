//! The paper's claims, judged by a study's results and by the paper's own printed tables.
//!
//! Every claim has one contrast and one margin, fixed beforehand ([`contrasts`]); what is said of it follows from its interval
//! alone ([`verdict`]). The printed tables are checked line by line beside it ([`audit`]).

mod audit;
mod contrasts;
mod evidence;
#[cfg(test)]
mod planted;
mod verdict;

use std::collections::BTreeMap;

use forgetting_eval::holm;
use report::{BarPanel, Bars, Column, Estimate, Figure, Format, Page, Table};

use self::contrasts::{CONTINUED_SIZES, Claim, FINDINGS, GRID_SIZES, PARTS};
use self::evidence::{AtSize, ByCell, Evidence, Replicates, Which};
use self::verdict::{Tested, Verdict};
use super::comparison::{ALONE, unit_of_seeds};
use super::figure3::{Variant, advantage, have_sources_of_their_own, is_mixed};
use super::figure4::{COMPENSATION, Grid};
use super::losses::{self, Losses, Wanted};
use super::representations::{seeds, steadier_by};
use super::table3::Continued;
use super::{Question, proximity};
use crate::graph::Graph;
use crate::plan::Plan;
use crate::protocol::{ARMS, PYCODE, STARCODER};
use crate::{ArmId, Error, ProbeId, SetId, SizeId, Study};

/// The five findings of the paper and what belongs to them.
///
/// What a study has no arms, sets or probes for is not testable by it; names are the paper's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Claims {
    /// The share of the control's loss below which a benefit is of no account.
    pub margin: f64,
}

impl Claims {
    /// A margin of 1 %.
    pub const PAPER: Self = Self { margin: 0.01 };
}

/// What a study has for the claims.
struct Places {
    /// The mixes of the tables.
    mixes: Vec<ArmId>,
    /// Fine-tunes beside those of the tables, with the number of sizes, from the first on, at which they are asked for.
    others: Vec<(ArmId, SetId, usize)>,
    corners: Option<[ArmId; 4]>,
    /// What representations are compared on: arm and set, and the probes by name.
    probed: Option<(ArmId, SetId, Probes)>,
}

/// Probes by name.
type Probes = Vec<(&'static str, ProbeId)>;

impl Places {
    fn of(study: &Study) -> Self {
        let arm = |name: &str| study.arm_named(name).ok();
        let set = |name: &str| study.set_named(name).ok();
        let named = |id: &ArmId| ARMS.iter().any(|known| known.name == study[*id].name());
        let mixes = study.treated().filter(|id| is_mixed(study, *id)).filter(named).collect();
        let mut others = Vec::new();
        for Continued { mixed, continued, set: on } in Continued::PAPER {
            if let (Some(mixed), Some(continued), Some(on)) = (arm(mixed), arm(continued), set(on)) {
                others.extend([(mixed, on, CONTINUED_SIZES), (continued, on, CONTINUED_SIZES)]);
            }
        }
        let corners = STARCODER.mix.and_then(|mix| Grid::of(study, mix.role).corners());
        if let Some(on) = set(PYCODE.name) {
            let compensation = COMPENSATION.iter().filter_map(|name| arm(name));
            let grid = corners.into_iter().flatten().chain(compensation);
            others.extend(grid.map(|arm| (arm, on, GRID_SIZES)));
        }
        let probes = ["APPS", "C4"].into_iter().filter_map(|name| Some((name, study.probe_named(name).ok()?)));
        let probed = arm(STARCODER.name).zip(set(PYCODE.name)).map(|(arm, set)| (arm, set, probes.collect()));
        Self { mixes, others, corners, probed }
    }

    /// Whether a fine-tune is asked for at a size, by its place among all, from the smallest on.
    fn asks(&self, study: &Study, place: usize, arm: ArmId, set: SetId) -> bool {
        arm == study.control()
            || self.mixes.contains(&arm)
            || self.others.iter().any(|(a, s, sizes)| (*a, *s) == (arm, set) && place < *sizes)
    }
}

/// All sizes from the smallest on, in whatever order the study has them: some claims are of the smallest alone.
fn by_parameters(study: &Study) -> Vec<SizeId> {
    let mut sizes: Vec<SizeId> = study.sizes().collect();
    sizes.sort_by_key(|size| study[*size].spec().model.parameter_count().total);
    sizes
}

impl Question for Claims {
    fn name(&self) -> &str {
        "claims"
    }

    fn check(&self, _: &Study) -> Result<(), Error> {
        if self.margin.is_finite() && self.margin > 0.0 {
            return Ok(());
        }
        Err(Error::field("margin", self.margin, "must be above 0"))
    }

    fn needs(&self, graph: &mut Graph<'_>) -> Result<(), Error> {
        let places = Places::of(graph.study());
        proximity::job(graph);
        for (place, size) in by_parameters(graph.study()).into_iter().enumerate() {
            graph.at(size, |graph| {
                let study = graph.study();
                losses::needs(graph, Wanted::cells(&|arm, set| places.asks(study, place, arm, set)))?;
                let Some((arm, set, probes)) = &places.probed else { return Ok(()) };
                for (_, probe) in probes {
                    seeds(study).try_for_each(|seeds| graph.probe((*arm, *set, *probe), seeds).map(|_| ()))?;
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    fn answer(&self, name: &str, graph: &mut Graph<'_>) -> Result<Page, Error> {
        let study = graph.study();
        let mut failures = Vec::new();
        let evidence = of_study(graph, &mut failures)?;
        let printed = Evidence::printed()?;
        let own = Judged::of(&evidence, self.margin);
        let papers = Judged::of(&printed, self.margin);
        let mut page = Page::new(&format!("{}: the paper's claims ({})", super::heading(name), models(&evidence)));
        page.asked =
            "Which of the paper's claims do these results bear out, and which do the paper's own tables?".to_owned();
        page.found = own.sentences();
        page.found.extend(reach(study));
        page.found.push(papers.summary("The paper's printed tables"));
        page.found.push(unit_of_seeds(study));
        page.found.extend(failures);
        page.tables = vec![
            own.findings(name, "The five findings, by this study's results", self.margin),
            own.parts("parts", "What belongs to them, each by itself", self.margin),
            papers.findings("printed", "The five findings, by the paper's printed tables", self.margin),
            papers.parts("printed_parts", "What belongs to them, by the paper's printed tables", self.margin),
            audit::table("audit", &printed)?,
        ];
        page.figures = vec![figure(name, &[("this study", &own), ("the paper's tables", &papers)], self.margin)];
        page.notes = notes(self.margin);
        page.notes.push(audit::note());
        Ok(page)
    }

    fn on_stated(&self, name: &str, _: &Study, _: &Plan) -> Result<Page, Error> {
        let printed = Evidence::printed()?;
        let papers = Judged::of(&printed, self.margin);
        let mut page = Page::new(&format!("{}: the paper's claims, by its printed tables", super::heading(name)));
        page.asked = "Which of its claims do the paper's own tables bear out?".to_owned();
        page.found = papers.sentences();
        page.tables = vec![
            papers.findings(name, "The five findings, by the paper's printed tables", self.margin),
            papers.parts("printed_parts", "What belongs to them, each by itself", self.margin),
            audit::table("audit", &printed)?,
        ];
        page.figures = vec![figure(name, &[("the paper's tables", &papers)], self.margin)];
        page.notes = notes(self.margin);
        page.notes.push(audit::note());
        Ok(page)
    }
}

/// What verdicts are worth with the seeds that there were.
fn reach(study: &Study) -> Option<String> {
    (study.spec().pretrain_seeds == 1).then(|| {
        "With one pretraining seed no verdict is given: the column \"these checkpoints\" says what the intervals over this study's seeds \
         would say, of these models alone."
            .to_owned()
    })
}

fn models(evidence: &Evidence) -> String {
    evidence.sizes.iter().map(|at| at.model.as_str()).collect::<Vec<_>>().join(", ")
}

fn notes(margin: f64) -> Vec<String> {
    vec![format!(
        "Contrasts and margins were fixed before any study's result was seen; the paper's tables were known (δ = {:.1} % of the control's \
         loss, 0.3 in correlations, 0.01 in CKA). A claim holds where the 95 % interval of its contrast lies above 0 and p is below 5 % (of the \
         five findings adjusted by Holm over those that can be tested). It fails where the interval excludes a benefit of δ or more. Where \
         both are so there is a benefit below δ, else it is undecided. A claim of an effect below δ has δ less the effect as its contrast: it \
         fails where the interval lies below 0. A claim of a correlation never fails: no interval covers other mixes. A claim that all of \
         several contrasts must show has the lowest of them.",
        100.0 * margin
    )]
}

/// The study's results.
fn of_study(graph: &mut Graph<'_>, failures: &mut Vec<String>) -> Result<Evidence, Error> {
    let study = graph.study();
    let places = Places::of(study);
    let closeness = proximity::closeness(graph)?;
    let mut advantages = BTreeMap::new();
    for arm in &places.mixes {
        for set in study.sets() {
            let value = advantage(Variant::Controlled, &closeness, *arm, set).value;
            advantages.insert((study[*arm].name().to_owned(), study[set].name.clone()), value);
        }
    }
    let mut sizes = Vec::new();
    for (place, size) in by_parameters(study).into_iter().enumerate() {
        let at = graph.at(size, |graph| at_size(graph, &places, place, failures))?;
        sizes.push(AtSize { advantages: advantages.clone(), ..at });
    }
    Ok(Evidence {
        sizes,
        replicates: Replicates::Seeds { pretraining: study.spec().pretrain_seeds > 1 },
        exchangeable: have_sources_of_their_own(study, &places.mixes),
        seed: study.seed("permutations of mixes", 0),
    })
}

fn at_size(graph: &mut Graph<'_>, places: &Places, place: usize, failures: &mut Vec<String>) -> Result<AtSize, Error> {
    let study = graph.study();
    let wanted = |arm, set| places.asks(study, place, arm, set);
    let losses = Losses::of(graph, Wanted::cells(&wanted))?;
    let model = &study.spec().model_name;
    failures.extend(losses.failures().into_iter().map(|line| format!("{model}: {line}")));
    let mut cells: BTreeMap<Which, ByCell> = BTreeMap::new();
    for set in study.sets() {
        for arm in study.arms().filter(|arm| wanted(*arm, set)) {
            for (which, loss) in [(Which::Sft, losses::Loss::Sft), (Which::C4, losses::Loss::C4)] {
                if let Some(values) = losses.values(arm, set, |m| loss.of(m)) {
                    let cell = (study[arm].name().to_owned(), study[set].name.clone());
                    cells.entry(which).or_default().insert(cell, values);
                }
            }
        }
    }
    let name = |arm: ArmId| study[arm].name().to_owned();
    Ok(AtSize {
        model: model.clone(),
        control: name(study.control()),
        mixes: places.mixes.iter().map(|arm| name(*arm)).collect(),
        sets: study.sets().map(|set| study[set].name.clone()).collect(),
        losses: cells,
        advantages: BTreeMap::new(),
        shifts: shifts(graph, places, failures)?,
        corners: places.corners.map(|corners| corners.map(name)),
    })
}

/// Finding 5's differences by probe: one a pretraining seed, or, of one, one a fine-tuning seed.
fn shifts(
    graph: &mut Graph<'_>,
    places: &Places,
    failures: &mut Vec<String>,
) -> Result<BTreeMap<String, Vec<f64>>, Error> {
    let study = graph.study();
    let mut out = BTreeMap::new();
    let Some((arm, set, probes)) = &places.probed else { return Ok(out) };
    for (name, probe) in probes {
        let mut by_run: BTreeMap<u64, Vec<Option<f64>>> = BTreeMap::new();
        for seeds in seeds(study) {
            let outcome = graph.probe((*arm, *set, *probe), seeds)?.map(|job| graph.outcome(&job)).transpose()?;
            let value = match outcome {
                Some(Ok(result)) => steadier_by(&result),
                Some(Err(failure)) => {
                    failures.push(format!("{}, CKA probed with {name}: failed: {failure}", study.spec().model_name));
                    None
                }
                None => None,
            };
            by_run.entry(seeds.0).or_default().push(value);
        }
        // A mean over some of the seeds would be another number than its neighbours.
        let Some(whole) = by_run.into_values().map(|run| run.into_iter().collect()).collect::<Option<Vec<Vec<f64>>>>()
        else {
            continue;
        };
        let values = match whole.as_slice() {
            [only] => only.clone(),
            runs => runs.iter().map(|run| run.iter().sum::<f64>() / run.len() as f64).collect(),
        };
        out.insert((*name).to_owned(), values);
    }
    Ok(out)
}

/// A claim, and what was found of it.
struct Row {
    claim: &'static Claim,
    tested: Option<Tested>,
    /// Of the five findings adjusted by Holm, of others its own.
    p: Option<f64>,
    verdict: Verdict,
}

impl Row {
    fn interval(&self) -> Option<(f64, f64)> {
        self.tested.as_ref()?.interval
    }
}

/// All claims, judged.
struct Judged {
    findings: Vec<Row>,
    parts: Vec<Row>,
    /// Whether verdicts speak of mixes: values are those of runs, not of one run's fine-tunes.
    of_runs: bool,
    /// What intervals are over.
    unit: &'static str,
}

/// Each claim with its contrast, or why there is none.
type Found = Vec<(&'static Claim, Result<Tested, String>)>;

impl Judged {
    fn of(evidence: &Evidence, margin: f64) -> Self {
        let found = |claims: &'static [Claim]| -> Found {
            claims.iter().map(|claim| (claim, (claim.test)(evidence, margin))).collect()
        };
        let findings = found(&FINDINGS);
        let p: Vec<Option<f64>> = findings.iter().map(|(_, tested)| tested.as_ref().ok()?.p).collect();
        let judge = |(claim, tested): (&'static Claim, Result<Tested, String>), p: Option<f64>| {
            let verdict = match &tested {
                Ok(tested) => Verdict::of(tested, claim.sense, claim.margin.value(margin), p),
                Err(reason) => Verdict::NotTestable(reason.clone()),
            };
            Row { claim, tested: tested.ok(), p, verdict }
        };
        // Each part stands for itself.
        let alone = |found: (&'static Claim, Result<Tested, String>)| {
            let p = found.1.as_ref().ok().and_then(|tested| tested.p);
            judge(found, p)
        };
        Self {
            findings: findings.into_iter().zip(holm(&p)).map(|(found, p)| judge(found, p)).collect(),
            parts: found(&PARTS).into_iter().map(alone).collect(),
            of_runs: evidence.replicates != Replicates::Seeds { pretraining: false },
            unit: evidence.unit(),
        }
    }

    /// What was repeated, of a claim that has an interval or a p.
    fn unit_of(&self, row: &Row) -> &'static str {
        match (row.interval(), row.p) {
            (Some(_), _) => self.unit,
            (None, Some(_)) => "mixes",
            (None, None) => "",
        }
    }

    /// The verdict; none of one pretraining run.
    fn verdict(&self, row: &Row) -> String {
        match &row.verdict {
            Verdict::NotTestable(_) => row.verdict.name().to_owned(),
            _ if !self.of_runs => "none".to_owned(),
            verdict => verdict.name().to_owned(),
        }
    }

    /// What each finding's verdict is, in a sentence.
    fn sentences(&self) -> Vec<String> {
        let mut out = vec![self.summary(if self.of_runs {
            "The five findings"
        } else {
            "The five findings, of these checkpoints alone"
        })];
        for row in &self.findings {
            let Some(tested) = &row.tested else { continue };
            let interval = tested.interval.map_or_else(
                || "one value, no interval".to_owned(),
                |(low, high)| format!("95 % interval {low:+.4} to {high:+.4}, over {}", self.unit),
            );
            let verdict = if self.of_runs {
                row.verdict.name().to_owned()
            } else {
                format!("of these checkpoints: {}", row.verdict.name())
            };
            out.push(format!(
                "{}, {}: contrast {:+.4} ({interval}): {verdict}.",
                row.claim.id, row.claim.claim, tested.value
            ));
        }
        out
    }

    /// How many have which verdict.
    fn summary(&self, what: &str) -> String {
        let names = ["holds", "holds, below the margin", "fails", "undecided", "not testable"];
        let count = |name: &str| self.findings.iter().filter(|row| row.verdict.name() == name).count();
        let said = names.iter().filter(|name| count(name) > 0).map(|name| format!("{name} {}", count(name)));
        format!("{what}: {}.", said.collect::<Vec<_>>().join("; "))
    }

    fn findings(&self, name: &str, title: &str, margin: f64) -> Table {
        let members = self.findings.iter().filter(|row| row.p.is_some()).count();
        self.table(name, title, &self.findings, margin)
            .with(
                Column::number("p_adjusted", Format::Probability, self.findings.iter().map(|r| r.p))
                    .heading("p (Holm)"),
            )
            .with(
                Column::text(
                    "family",
                    self.findings.iter().map(|r| r.p.map_or(String::new(), |_| format!("{members} findings"))),
                )
                .file_only(),
            )
    }

    fn parts(&self, name: &str, title: &str, margin: f64) -> Table {
        let alone = |row: &Row| match row.tested.as_ref().is_some_and(|t| t.interval.is_some() || t.p.is_some()) {
            true => ALONE,
            false => "",
        };
        self.table(name, title, &self.parts, margin)
            .with(Column::text("family", self.parts.iter().map(alone)).file_only())
    }

    fn table(&self, name: &str, title: &str, rows: &[Row], margin: f64) -> Table {
        let change = Format::Signed(4);
        let of = |value: fn(&Tested) -> Option<f64>| rows.iter().map(move |r| value(r.tested.as_ref()?));
        let unit = self.unit;
        let why = |r: &Row| match &r.verdict {
            Verdict::NotTestable(reason) => reason.clone(),
            _ => r.tested.as_ref().and_then(|t| t.note.clone()).unwrap_or_default(),
        };
        let table = Table::new(name, title)
            .with(Column::text("id", rows.iter().map(|r| r.claim.id)).heading(""))
            .with(Column::text("claim", rows.iter().map(|r| r.claim.claim)))
            .with(Column::number("contrast", change, of(|t| Some(t.value))))
            .with(Column::interval("ci", change, rows.iter().map(Row::interval)).heading("95 % interval"))
            .with(
                Column::number("margin", Format::Fixed(3), rows.iter().map(|r| r.claim.margin.value(margin)))
                    .heading("δ"),
            )
            .with(Column::text("verdict", rows.iter().map(|r| self.verdict(r))));
        let table = if self.of_runs {
            table
        } else {
            let checkpoints = rows.iter().map(|r| r.verdict.name());
            table.with(Column::text("these_checkpoints", checkpoints).heading("these checkpoints"))
        };
        table
            .with(
                Column::text("measured_in", rows.iter().map(|r| r.claim.margin.unit())).heading("in").documents_only(),
            )
            .with(
                Column::text("definition", rows.iter().map(|r| r.claim.contrast))
                    .heading("contrast is")
                    .documents_only(),
            )
            .with(Column::count("values", rows.iter().map(|r| r.tested.as_ref().map(|t| t.n as u64))).documents_only())
            .with(
                Column::number("detectable", Format::Fixed(4), of(|t| t.detectable)).documents_only().meaning(
                    "the smallest true contrast that is found with a chance of 80 % (two-sided 5 %, by itself)",
                ),
            )
            .with(Column::number("p", Format::Probability, of(|t| t.p)).documents_only())
            .with(Column::text("remark", rows.iter().map(why)).documents_only())
            .with(Column::text("shown_by", rows.iter().map(|r| r.claim.shown_by)).heading("shown by").documents_only())
            .with(Column::text("unit", rows.iter().map(|r| self.unit_of(r))).file_only())
            .note(reasons(rows))
            .note(match self.of_runs {
                _ if rows.iter().all(|r| r.interval().is_none()) => "There are no intervals.".to_owned(),
                true => format!("Intervals are over {unit}."),
                false => format!("Intervals are over {unit}: one pretraining seed, so that no verdict is given."),
            })
    }
}

/// Why claims are not testable, and which have no interval.
fn reasons(rows: &[Row]) -> String {
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for row in rows {
        let reason = match (&row.verdict, row.interval()) {
            (Verdict::NotTestable(reason), _) => reason.as_str(),
            (_, None) => "one value has no interval",
            _ => continue,
        };
        match reasons.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, ids)) => ids.push(row.claim.id),
            None => reasons.push((reason, vec![row.claim.id])),
        }
    }
    let each = reasons.iter().map(|(reason, ids)| format!("{}: {reason}. ", ids.join(", ")));
    format!("{}What each contrast is stands in the CSV file and in report.html.", each.collect::<String>())
}

/// Contrasts in units of their margins: above 0 in the claimed direction, above 1 a benefit that counts.
fn figure(name: &str, all: &[(&str, &Judged)], margin: f64) -> Figure {
    let estimate = |row: &Row| {
        let tested = row.tested.as_ref()?;
        let by = row.claim.margin.value(margin);
        let interval = tested.interval.map(|(low, high)| (low / by, high / by));
        Some(Estimate { value: tested.value / by, interval })
    };
    let group = |(i, claim): (usize, &Claim)| {
        let label = format!("{} {}", claim.id, claim.claim);
        (label, all.iter().map(|(_, judged)| estimate(&judged.findings[i])).collect())
    };
    let picture = Bars {
        axis: "contrast ÷ margin".to_owned(),
        series: all.iter().map(|(name, _)| (*name).to_owned()).collect(),
        panels: vec![BarPanel {
            title: "the five findings".to_owned(),
            groups: FINDINGS.iter().enumerate().map(group).collect(),
        }],
    };
    let rows: Vec<(&str, &Judged, &Row)> = all
        .iter()
        .flat_map(|(name, judged)| judged.findings.iter().chain(&judged.parts).map(move |row| (*name, *judged, row)))
        .collect();
    let change = Format::Signed(4);
    let title = "The findings' contrasts in units of their margins";
    let data = Table::new(name, title)
        .with(Column::text("results", rows.iter().map(|(name, ..)| *name)))
        .with(Column::text("id", rows.iter().map(|(.., r)| r.claim.id)))
        .with(Column::number("in_margins", change, rows.iter().map(|(.., r)| estimate(r).map(|e| e.value))))
        .with(Column::interval("ci", change, rows.iter().map(|(.., r)| estimate(r)?.interval)))
        .with(Column::text("verdict", rows.iter().map(|(_, judged, r)| judged.verdict(r))))
        .with(Column::text("unit", rows.iter().map(|(_, judged, r)| judged.unit_of(r))))
        .with(Column::text("family", rows.iter().map(|(.., r)| if r.interval().is_some() { ALONE } else { "" })));
    Figure::new(data, picture).subtitle([
        "Right of 0: in the claimed direction; beyond 1: a benefit that counts. Lines: 95 % intervals.".to_owned(),
        "Missing: not testable.".to_owned(),
    ])
}
