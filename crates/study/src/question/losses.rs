//! The losses of every fine-tune of a study: what table 2 and figure 3 are made of.

use std::collections::BTreeMap;

use forgetting_eval::{
    ClozeScore, DocumentComparison, DocumentDifferences, DocumentLosses, PerLength, Summary, accuracy, forgetting,
    gold_bits_per_byte,
};
use report::{Column, Format, Table};
use schedule::Step;

use super::comparison::LEVEL;
use crate::graph::{Cell, Graph, Rate};
use crate::job::{Evaluate, Finetune, Kind as _, MultipleChoice, Pretrain, Select, Selected};
use crate::store::{Failure, Payload};
use crate::study::plain;
use crate::{Address, ArmId, Error, SetId, Study};

/// One fine-tuned model.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Measurement {
    /// The arm's name.
    pub(super) mix: String,
    /// The set's name.
    pub(super) dataset: String,
    /// The pretraining seed.
    pub(super) pretrain_seed: u64,
    /// The fine-tuning seed.
    pub(super) sft_seed: u64,
    /// Peak learning rate of fine-tuning.
    pub(super) lr: f64,
    /// Held-out loss on the set, document by document.
    pub(super) sft: DocumentLosses,
    /// Held-out general loss before fine-tuning.
    pub(super) before: DocumentLosses,
    /// Held-out general loss after fine-tuning.
    pub(super) c4: DocumentLosses,
    /// What it chose of its set's items, where there are some.
    pub(super) chosen: Option<Vec<ClozeScore>>,
    /// Why that is missing.
    unanswered: Option<String>,
    /// Training examples.
    pub(super) examples: u64,
    /// Of these, cut at the longest row.
    pub(super) truncated: u64,
    /// Examples passed over.
    pub(super) dropped: u64,
    /// Where each number lies in the store.
    pub(super) addresses: Addresses,
    cell: (ArmId, SetId),
}

impl Measurement {
    /// Nats per predicted token on the set.
    pub(super) fn sft_loss(&self) -> f64 {
        self.sft.total().nats_per_token()
    }

    /// The same on general text after fine-tuning.
    pub(super) fn c4_loss(&self) -> f64 {
        self.c4.total().nats_per_token()
    }

    /// The same before.
    pub(super) fn c4_before(&self) -> f64 {
        self.before.total().nats_per_token()
    }

    /// The share of its set's items of which it chose the right answer.
    pub(super) fn accuracy(&self, per: PerLength) -> Option<f64> {
        accuracy(self.chosen.as_ref()?, per)
    }

    /// Bits per byte of the right answers.
    pub(super) fn gold_bits_per_byte(&self) -> Option<f64> {
        gold_bits_per_byte(self.chosen.as_ref()?)
    }
}

/// What is compared of fine-tuned models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// On the fine-tuning set.
    Sft,
    /// On general text.
    C4,
    /// How much that rose in fine-tuning (Eq. 9).
    Forgetting,
}

impl Loss {
    pub(super) const ALL: [Self; 3] = [Self::Sft, Self::C4, Self::Forgetting];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Sft => "sft",
            Self::C4 => "c4",
            Self::Forgetting => "forgetting",
        }
    }

    /// Nats per token.
    pub(super) fn of(self, m: &Measurement) -> f64 {
        match self {
            Self::Sft => m.sft_loss(),
            Self::C4 => m.c4_loss(),
            Self::Forgetting => forgetting(m.c4_before(), m.c4_loss()),
        }
    }

    /// One model's less another's, document by document.
    fn difference(self, left: &Measurement, right: &Measurement) -> Result<DocumentDifferences, Error> {
        Ok(match self {
            Self::Sft => DocumentDifferences::of(&left.sft, &right.sft)?,
            Self::C4 => DocumentDifferences::of(&left.c4, &right.c4)?,
            Self::Forgetting => {
                let before = DocumentDifferences::of(&left.before, &right.before)?;
                DocumentDifferences::of(&left.c4, &right.c4)?.less(&before)?
            }
        })
    }
}

/// Where a measurement's numbers lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Addresses {
    /// The pretrained state.
    pub(super) pretrain: Address,
    /// Its general loss.
    pub(super) c4_before: Address,
    /// The fine-tune.
    pub(super) finetune: Address,
    /// Its loss on the set.
    pub(super) sft_loss: Address,
    /// Its general loss.
    pub(super) c4_loss: Address,
}

/// One point of a learning-rate sweep.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SweepPoint {
    /// The arm it was tried on.
    pub(super) mix: String,
    /// The set.
    pub(super) dataset: String,
    /// The rate.
    pub(super) lr: f64,
    /// Loss on the set's validation split, mean over pretraining seeds; `None` where a fine-tune diverged.
    pub(super) validation_loss: Option<f64>,
    /// Whether it was chosen, and whether it then lies at the edge of all that were tried.
    pub(super) chosen: Option<bool>,
}

/// A fine-tune without a result.
#[derive(Debug, Clone, PartialEq)]
struct Missing {
    mix: String,
    dataset: String,
    reason: String,
    cell: (ArmId, SetId),
}

/// All losses of a study.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Losses {
    /// Every fine-tuned model of the tables.
    pub(super) measurements: Vec<Measurement>,
    /// Those without a result, and why.
    failed: Vec<Missing>,
    /// The sweeps, where there were any.
    pub(super) sweep: Vec<SweepPoint>,
    /// Each arm's held-out general loss before fine-tuning, by pretraining seed; `None` where pretraining failed.
    pub(super) c4_before: BTreeMap<String, Vec<Option<f64>>>,
    /// The base checkpoint's held-out general loss; `None` where training began at first weights, or it has none.
    pub(super) c4_of_base: Option<f64>,
    /// Entropy of the held-out general text's token distribution: the loss without any context.
    pub(super) unigram_entropy: f64,
}

/// Which fine-tunes are wanted.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'w> {
    /// Which arms on which sets.
    cells: &'w dyn Fn(ArmId, SetId) -> bool,
    /// Of the checkpoint after so many steps; of the last one where absent.
    at: Option<Step>,
}

impl<'w> Wanted<'w> {
    /// Of these arms on these sets.
    pub(super) fn cells(cells: &'w dyn Fn(ArmId, SetId) -> bool) -> Self {
        Self { cells, at: None }
    }

    /// Of the checkpoint after so many steps.
    pub(super) fn at(self, step: Step) -> Self {
        Self { at: Some(step), ..self }
    }

    fn arms(self, study: &Study, set: SetId) -> impl Iterator<Item = ArmId> + use<'w> {
        study.arms().filter(move |arm| (self.cells)(*arm, set))
    }

    /// The state that is fine-tuned.
    fn state(self, graph: &mut Graph<'_>, arm: ArmId, seed: u64) -> Result<Pretrain, Error> {
        match self.at {
            None => graph.end(arm, seed),
            Some(step) => graph.state(arm, seed, step),
        }
    }
}

/// All arms on all sets.
pub(super) const EVERY: Wanted<'static> = Wanted { cells: &|_, _| true, at: None };

/// A study at one of its sizes, and its losses.
pub(super) struct OfSize<'a> {
    pub(super) study: &'a Study,
    pub(super) losses: Losses,
}

/// Adds what the losses of a study need at each of its sizes.
pub(super) fn needs_at_each_size(graph: &mut Graph<'_>, wanted: Wanted<'_>) -> Result<(), Error> {
    graph.study().sizes().try_for_each(|size| graph.at(size, |graph| needs(graph, wanted)))
}

/// The losses of a study at each of its sizes.
pub(super) fn at_each_size<'a>(graph: &mut Graph<'a>, wanted: Wanted<'_>) -> Result<Vec<OfSize<'a>>, Error> {
    let sizes = graph.study().sizes();
    let of = |size| graph.at(size, |graph| Ok(OfSize { study: graph.study(), losses: Losses::of(graph, wanted)? }));
    sizes.map(of).collect()
}

/// The jobs of one fine-tune.
struct Jobs {
    cell: Cell,
    end: Pretrain,
    before: Evaluate,
    /// With its two evaluations, and what it chooses of its set's items; not yet, or not at all.
    tuned: Result<(Finetune, Evaluate, Evaluate, Option<MultipleChoice>), Option<Failure>>,
}

/// Adds the jobs of all fine-tunes that are wanted.
fn jobs(graph: &mut Graph<'_>, wanted: Wanted<'_>) -> Result<Vec<Jobs>, Error> {
    let (study, mut out) = (graph.study(), Vec::new());
    for set in study.sets() {
        for arm in wanted.arms(study, set) {
            for pretrain_seed in 0..study.spec().pretrain_seeds {
                let end = wanted.state(graph, arm, pretrain_seed)?;
                let before = graph.general_loss_of(&end)?;
                for sft_seed in 0..study.spec().sft_seeds {
                    let cell = Cell { arm, set, pretrain_seed, sft_seed };
                    let tuned = match graph.rate(arm, set)? {
                        Rate::Pending => Err(None),
                        Rate::Failed(failure) => Err(Some(failure)),
                        Rate::Known(lr) => {
                            // Models along a run are not kept.
                            let payload = if wanted.at.is_some() { Payload::Result } else { Payload::Full };
                            let tuned = graph.finetune_of(&end, cell, lr, payload)?;
                            let (on_set, general) = graph.losses_of(&tuned, set)?;
                            let chosen = graph.choices_of(&tuned, set);
                            Ok((tuned, on_set, general, chosen))
                        }
                    };
                    out.push(Jobs { cell, end: end.clone(), before: before.clone(), tuned });
                }
            }
        }
    }
    Ok(out)
}

/// Adds what the losses of a study need.
pub(super) fn needs(graph: &mut Graph<'_>, wanted: Wanted<'_>) -> Result<(), Error> {
    graph.base_loss()?;
    jobs(graph, wanted).map(|_| ())
}

impl Losses {
    /// From the results.
    pub(super) fn of(graph: &mut Graph<'_>, wanted: Wanted<'_>) -> Result<Self, Error> {
        let study = graph.study();
        let (mut measurements, mut failed) = (Vec::new(), Vec::new());
        let mut c4_before: BTreeMap<String, Vec<Option<f64>>> = BTreeMap::new();
        for arm in study.arms().filter(|arm| study.sets().any(|set| (wanted.cells)(*arm, set))) {
            let mut of_seeds = Vec::new();
            for seed in 0..study.spec().pretrain_seeds {
                let end = wanted.state(graph, arm, seed)?;
                let before = graph.general_loss_of(&end)?;
                of_seeds.push(graph.loss(&before)?.ok().map(|loss| loss.total().nats_per_token()));
            }
            c4_before.insert(study[arm].name().to_owned(), of_seeds);
        }
        for jobs in jobs(graph, wanted)? {
            match measure(graph, &jobs)? {
                Ok(measurement) => measurements.push(measurement),
                Err(failure) => failed.push(Missing {
                    mix: study[jobs.cell.arm].name().to_owned(),
                    dataset: study[jobs.cell.set].name.clone(),
                    // A failure that follows from another one says which.
                    reason: if failure.root.is_some() { failure.reason } else { failure.to_string() },
                    cell: (jobs.cell.arm, jobs.cell.set),
                }),
            }
        }
        let c4_of_base = match graph.base_loss()? {
            Some(base) => graph.loss(&base)?.ok().map(|loss| loss.total().nats_per_token()),
            None => None,
        };
        Ok(Self {
            measurements,
            failed,
            c4_of_base,
            sweep: sweeps(graph, wanted)?,
            c4_before,
            unigram_entropy: graph.data().unigram_entropy,
        })
    }

    /// A loss of an arm on a set, one value a seed — with several pretraining seeds, each is the mean over its
    /// fine-tunes; `None` where one of its fine-tunes has no result.
    pub(super) fn values(&self, arm: ArmId, set: SetId, value: impl Fn(&Measurement) -> f64) -> Option<Vec<f64>> {
        if self.is_incomplete(arm, set) {
            return None;
        }
        Some(match self.nested(arm, set, value).as_slice() {
            // Not asked for.
            [] => return None,
            [only] => only.clone(),
            seeds => seeds.iter().map(|fine_tunes| Summary::of(fine_tunes).mean).collect(),
        })
    }

    /// How a loss of an arm differs from another arm's on the same held-out documents: the mean over their seeds, with its
    /// interval over documents; `None` where one of them has no result, or there are not two documents.
    pub(super) fn over_documents(
        &self,
        (arm, against): (ArmId, ArmId),
        set: SetId,
        loss: Loss,
    ) -> Result<Option<DocumentComparison>, Error> {
        let seeds = |m: &Measurement| (m.pretrain_seed, m.sft_seed);
        let mut differences = Vec::new();
        for left in self.of_cell(arm, set) {
            match self.of_cell(against, set).find(|right| seeds(right) == seeds(left)) {
                Some(right) => differences.push(loss.difference(left, right)?),
                None => return Ok(None),
            }
        }
        if self.is_incomplete(arm, set) || differences.is_empty() {
            return Ok(None);
        }
        let mean = DocumentDifferences::mean(&differences)?;
        Ok(if mean.documents() < 2 { None } else { Some(mean.compare(LEVEL)?) })
    }

    /// The mean over seeds of what not every model may have; `None` where one lacks it.
    pub(super) fn summary(
        &self,
        arm: ArmId,
        set: SetId,
        value: impl Fn(&Measurement) -> Option<f64>,
    ) -> Option<Summary> {
        if self.of_cell(arm, set).any(|m| value(m).is_none()) {
            return None;
        }
        let values = self.values(arm, set, |m| value(m).unwrap_or_default())?;
        Some(Summary::of(&values))
    }

    fn is_incomplete(&self, arm: ArmId, set: SetId) -> bool {
        self.failed.iter().any(|m| m.cell == (arm, set))
    }

    /// A value of an arm on a set: by pretraining seed, those of its fine-tunes.
    pub(super) fn nested(&self, arm: ArmId, set: SetId, value: impl Fn(&Measurement) -> f64) -> Vec<Vec<f64>> {
        let mut seeds = BTreeMap::<u64, Vec<f64>>::new();
        for m in self.of_cell(arm, set) {
            seeds.entry(m.pretrain_seed).or_default().push(value(m));
        }
        seeds.into_values().collect()
    }

    /// The fine-tunes of an arm on a set.
    pub(super) fn of_cell(&self, arm: ArmId, set: SetId) -> impl Iterator<Item = &Measurement> {
        self.measurements.iter().filter(move |m| m.cell == (arm, set))
    }

    /// An arm's general loss before fine-tuning, mean over pretraining seeds.
    pub(super) fn before_mean(&self, arm: &str) -> Option<f64> {
        let values = self.c4_before.get(arm)?.iter().copied().collect::<Option<Vec<f64>>>()?;
        Some(Summary::of(&values).mean)
    }

    /// Where each number lies, and which rates were tried.
    pub(super) fn details(&self) -> Vec<Table> {
        self.details_of("")
    }

    /// The same of one of several sizes, whose name ends those of the tables.
    pub(super) fn details_of(&self, size: &str) -> Vec<Table> {
        let mut details = vec![measurements(&named("measurements", size), &self.measurements)];
        if !self.sweep.is_empty() {
            details.push(sweep(&named("sweep", size), &self.sweep));
        }
        details
    }

    /// Sets whose best rate lies at the edge of all that were tried.
    pub(super) fn at_the_edge(&self) -> Option<String> {
        let at_edge = self.sweep.iter().filter(|p| p.chosen == Some(true));
        let named: Vec<String> = at_edge.map(|p| format!("{} on {} ({:e})", p.mix, p.dataset, p.lr)).collect();
        let which = named.join(", ");
        (!named.is_empty())
            .then(|| format!("The best rate lies at the edge of the grid: {which}. A better one may lie beyond."))
    }

    /// What failed: each reason once, with the cells that lack a result for it.
    pub(super) fn failures(&self) -> Vec<String> {
        let mut reasons: Vec<(&str, Vec<String>)> = Vec::new();
        for m in &self.failed {
            let cell = format!("{} on {}", m.mix, m.dataset);
            match reasons.iter_mut().find(|(known, _)| *known == m.reason) {
                Some((_, cells)) if cells.contains(&cell) => {}
                Some((_, cells)) => cells.push(cell),
                None => reasons.push((&m.reason, vec![cell])),
            }
        }
        for m in &self.measurements {
            let Some(reason) = &m.unanswered else { continue };
            let cell = format!("items of {} for {}", m.dataset, m.mix);
            match reasons.iter_mut().find(|(known, _)| known == reason) {
                Some((_, cells)) if cells.contains(&cell) => {}
                Some((_, cells)) => cells.push(cell),
                None => reasons.push((reason, vec![cell])),
            }
        }
        let line = |(reason, cells): &(&str, Vec<String>)| match cells.as_slice() {
            // It names its arm and its set.
            [only] if reason.starts_with(only.as_str()) => format!("failed: {reason}"),
            _ => format!("failed ({}): {reason}", cells.join("; ")),
        };
        reasons.iter().map(line).collect()
    }
}

/// The name of a table of one of several sizes.
pub(super) fn named(table: &str, size: &str) -> String {
    if size.is_empty() { table.to_owned() } else { format!("{table}_{}", plain(size)) }
}

/// Every fine-tuned model with the folders of the store that hold its numbers.
fn measurements(name: &str, all: &[Measurement]) -> Table {
    let number = |name: &str, value: fn(&Measurement) -> Option<f64>| {
        Column::number(name, Format::Fixed(6), all.iter().map(value))
    };
    let count = |name: &str, value: fn(&Measurement) -> u64| Column::count(name, all.iter().map(value));
    let folder = |name: &str, value: fn(&Addresses) -> &Address| {
        Column::text(name, all.iter().map(|m| value(&m.addresses).to_string()))
    };
    Table::new(name, "Every fine-tuned model, and the folders of the store that hold its numbers")
        .with(Column::text("dataset", all.iter().map(|m| m.dataset.as_str())).heading("set"))
        .with(Column::text("mix", all.iter().map(|m| m.mix.as_str())))
        .with(count("pretrain_seed", |m| m.pretrain_seed))
        .with(count("sft_seed", |m| m.sft_seed))
        .with(Column::number("lr", Format::Scientific(1), all.iter().map(|m| m.lr)).heading("rate"))
        .with(number("sft_loss", |m| Some(m.sft_loss())).heading("SFT"))
        .with(number("c4_before", |m| Some(m.c4_before())).heading("C4 before"))
        .with(number("c4_loss", |m| Some(m.c4_loss())).heading("C4"))
        .with(number("sft_document_se", |m| m.sft.standard_error()).file_only())
        .with(number("c4_document_se", |m| m.c4.standard_error()).file_only())
        .with(number("c4_bits_per_byte", |m| m.c4.total().bits_per_byte()).file_only())
        .with(count("examples", |m| m.examples).file_only())
        .with(count("truncated", |m| m.truncated).file_only())
        .with(count("dropped", |m| m.dropped).file_only())
        .with(folder("pretrain_address", |a| &a.pretrain).heading("pretrained in"))
        .with(folder("finetune_address", |a| &a.finetune).heading("fine-tuned in"))
        .with(folder("sft_loss_address", |a| &a.sft_loss).heading("SFT evaluated in"))
        .with(folder("c4_before_address", |a| &a.c4_before).heading("C4 before evaluated in"))
        .with(folder("c4_loss_address", |a| &a.c4_loss).heading("C4 evaluated in"))
        .note("Folders are below the store; each holds job.json, its inputs, and done.json, its result.")
}

fn sweep(name: &str, points: &[SweepPoint]) -> Table {
    Table::new(
        name,
        "Learning rates that were tried, with the loss on the validation split, mean over pretraining seeds",
    )
    .with(Column::text("dataset", points.iter().map(|p| p.dataset.as_str())).heading("set"))
    .with(Column::text("mix", points.iter().map(|p| p.mix.as_str())))
    .with(Column::number("lr", Format::Scientific(1), points.iter().map(|p| p.lr)).heading("rate"))
    .with(
        Column::number("validation_loss", Format::Fixed(4), points.iter().map(|p| p.validation_loss))
            .heading("validation"),
    )
    .with(Column::text(
        "chosen",
        points.iter().map(|p| match p.chosen {
            Some(true) => "chosen, at the edge",
            Some(false) => "chosen",
            None => "",
        }),
    ))
    .grouped()
    .note("Without a loss: a fine-tune diverged.")
}

fn measure(graph: &Graph<'_>, jobs: &Jobs) -> Result<Result<Measurement, Failure>, Error> {
    let (tuned, on_set, general, chosen) = match &jobs.tuned {
        Ok(tuned) => tuned,
        Err(Some(failure)) => return Ok(Err(failure.clone())),
        Err(None) => return Err(Error::NoJob { address: jobs.end.address() }),
    };
    let mut losses: Vec<DocumentLosses> = Vec::new();
    for job in [&jobs.before, on_set, general] {
        match graph.loss(job)? {
            Ok(loss) => losses.push(loss),
            Err(failure) => return Ok(Err(failure)),
        }
    }
    let Ok([before, sft, c4]) = <[DocumentLosses; 3]>::try_from(losses) else {
        unreachable!("one of each of three jobs")
    };
    // Losses do not depend on it.
    let (chosen, unanswered) = match chosen.as_ref().map(|job| graph.choices(job)).transpose()? {
        Some(Err(failure)) => (None, Some(failure.to_string())),
        Some(Ok(scores)) => (Some(scores), None),
        None => (None, None),
    };
    let report = graph.data().rows(jobs.cell.set).train.report;
    Ok(Ok(Measurement {
        mix: graph.study()[jobs.cell.arm].name().to_owned(),
        dataset: graph.study()[jobs.cell.set].name.clone(),
        pretrain_seed: jobs.cell.pretrain_seed,
        sft_seed: jobs.cell.sft_seed,
        lr: tuned.lr,
        sft,
        before,
        c4,
        chosen,
        unanswered,
        examples: report.examples,
        truncated: report.truncated,
        dropped: report.dropped,
        addresses: Addresses {
            pretrain: jobs.end.address(),
            c4_before: jobs.before.address(),
            finetune: tuned.address(),
            sft_loss: on_set.address(),
            c4_loss: general.address(),
        },
        cell: (jobs.cell.arm, jobs.cell.set),
    }))
}

/// Every rate that was tried, each sweep once.
pub(super) fn sweeps(graph: &mut Graph<'_>, wanted: Wanted<'_>) -> Result<Vec<SweepPoint>, Error> {
    let study = graph.study();
    let mut seen: Vec<(ArmId, SetId)> = Vec::new();
    let mut points = Vec::new();
    for set in study.sets() {
        for arm in wanted.arms(study, set) {
            let on = graph.tried_on(arm);
            let Some(select) = graph.last_select(arm, set)? else { continue };
            if seen.contains(&(on, set)) {
                continue;
            }
            seen.push((on, set));
            let selected = graph.outcome(&select)?.ok();
            points.extend(tried(&select, selected.as_ref(), study[on].name(), &study[set].name));
        }
    }
    Ok(points)
}

fn tried<'a>(
    select: &'a Select,
    selected: Option<&'a Selected>,
    mix: &'a str,
    dataset: &'a str,
) -> impl Iterator<Item = SweepPoint> + 'a {
    select.candidates.iter().enumerate().map(move |(i, candidate)| SweepPoint {
        mix: mix.to_owned(),
        dataset: dataset.to_owned(),
        lr: candidate.rate,
        validation_loss: selected.and_then(|s| s.losses[i]),
        chosen: selected.filter(|s| s.rate == candidate.rate).map(|s| s.at_edge),
    })
}
