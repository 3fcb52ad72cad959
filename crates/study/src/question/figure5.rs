//! Figure 5: how the gain of midtraining grows along the run. Checkpoints of both runs are fine-tuned, and their losses on the
//! set and on general text stand against the tokens that they were pretrained on.

use forgetting_eval::{PerLength, Summary};
use report::{Column, Curves, Figure, Format, Lines, Page, Table};
use schedule::Step;

use super::Question;
use super::comparison::{ALONE, Difference, LEVEL, Unit, unit};
use super::losses::{self, Loss, Losses, Wanted};
use crate::graph::Graph;
use crate::protocol::{Arm, PYCODE, STARCODER, SftSet};
use crate::spec::{CurveShape, LrChoice};
use crate::{ArmId, Error, SetId, Study};

/// An arm and the control, fine-tuned on a set at checkpoints along their runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figure5<'a> {
    /// The midtrained arm.
    pub arm: &'a str,
    /// The set.
    pub set: &'a str,
}

impl<'a> Figure5<'a> {
    /// Of an arm and a set of a protocol.
    pub const fn of(arm: Arm<'a>, set: SftSet<'a>) -> Self {
        Self { arm: arm.name, set: set.name }
    }

    /// The paper's: 20 % Starcoder, fine-tuned on Pycode.
    pub const PAPER: Figure5<'static> = Figure5::of(STARCODER, PYCODE);
}

impl Figure5<'_> {
    fn places(&self, study: &Study) -> Result<(ArmId, SetId), Error> {
        Ok((study.arm_named(self.arm)?, study.set_named(self.set)?))
    }
}

impl Question for Figure5<'_> {
    fn name(&self) -> &str {
        "figure5"
    }

    fn check(&self, study: &Study) -> Result<(), Error> {
        let (arm, _) = self.places(study)?;
        if arm == study.control() {
            return Err(Error::field("arm", self.arm, "is the control: there is nothing to compare it with"));
        }
        Ok(())
    }

    fn needs(&self, graph: &mut Graph<'_>) -> Result<(), Error> {
        let (arm, set) = self.places(graph.study())?;
        let pair = [graph.study().control(), arm];
        let cells = |a, s| s == set && pair.contains(&a);
        graph.checkpoints().into_iter().try_for_each(|step| losses::needs(graph, Wanted::cells(&cells).at(step)))
    }

    fn answer(&self, name: &str, graph: &mut Graph<'_>) -> Result<Page, Error> {
        let (arm, set) = self.places(graph.study())?;
        let study = graph.study();
        let pair = [study.control(), arm];
        let cells = |a, s| s == set && pair.contains(&a);
        let mut checkpoints = Vec::new();
        for step in graph.checkpoints() {
            let losses = Losses::of(graph, Wanted::cells(&cells).at(step))?;
            checkpoints.push(Checkpoint { step, losses });
        }
        let shown = Shown { study, name, arm, set, checkpoints: &checkpoints };
        shown.page()
    }
}

struct Checkpoint {
    step: Step,
    losses: Losses,
}

struct Shown<'a> {
    study: &'a Study,
    name: &'a str,
    arm: ArmId,
    set: SetId,
    checkpoints: &'a [Checkpoint],
}

impl Shown<'_> {
    fn page(&self) -> Result<Page, Error> {
        let study = self.study;
        let differences = self.differences()?;
        let [arm, control, set] = [study[self.arm].name(), study[study.control()].name(), &study[self.set].name];
        let mut page = Page::new(&format!("{} ({})", super::heading(self.name), study.spec().model_name));
        page.asked = format!(
            "How do the losses after fine-tuning on {set} grow apart, the longer {arm} and {control} are pretrained?"
        );
        page.found = vec![self.found(&differences), unit(study)];
        // What fails for all checkpoints is said once.
        let mut failures: Vec<(String, Vec<String>)> = Vec::new();
        for checkpoint in self.checkpoints {
            for line in checkpoint.losses.failures() {
                let step = checkpoint.step.to_string();
                match failures.iter_mut().find(|(known, _)| *known == line) {
                    Some((_, steps)) => steps.push(step),
                    None => failures.push((line, vec![step])),
                }
            }
        }
        page.found.extend(failures.iter().map(|(line, steps)| format!("step {}: {line}", steps.join(", "))));
        page.notes = vec![self.conclude()];
        if let Some(start) = self.start() {
            page.notes.push(format!(
                "{arm} begins at step {start}: until then both are one run, and what differs there is nothing. {}",
                self.rates()
            ));
        }
        page.tables = vec![self.table(&differences)];
        page.figures = vec![self.figure()];
        page.details = self.checkpoints.last().map(|last| last.losses.details()).unwrap_or_default();
        Ok(page)
    }

    /// With which rate checkpoints are fine-tuned.
    fn rates(&self) -> String {
        let spec = self.study.spec();
        let rate = match spec.sft.lr {
            LrChoice::Fixed { .. } => "the given rate",
            LrChoice::SweepBase { .. } => "the rate that was chosen on the control's last one",
            LrChoice::SweepEach { .. } => "the rate that was chosen on the last one of its arm",
        };
        let falls = match spec.pretrain.shape {
            CurveShape::Constant => "",
            CurveShape::Cosine | CurveShape::Linear => {
                " Pretraining's own learning rate falls along the run, so that earlier checkpoints come from a higher one."
            }
        };
        format!("Every checkpoint is fine-tuned with {rate}.{falls}")
    }

    fn start(&self) -> Option<Step> {
        self.study[self.arm].timeline().phases().first().map(|phase| phase.start)
    }

    /// What may and what may not be concluded from the seeds that there were.
    fn conclude(&self) -> String {
        match Unit::of(self.study) {
            Unit::Pretraining => format!(
                "With {} pretraining seeds the intervals speak of other runs on this corpus; checkpoints of one run are not independent of each \
                 other, so that a curve's shape is seen as often as there are runs, not as there are checkpoints.",
                self.study.spec().pretrain_seeds
            ),
            _ => "With one pretraining seed it may be concluded how these two runs differ at these checkpoints; whether other runs would grow \
                  apart at the same time, or at all, may not."
                .to_owned(),
        }
    }

    fn differences(&self) -> Result<Vec<[Option<Difference>; 2]>, Error> {
        let pair = (self.arm, self.study.control());
        let of = |c: &Checkpoint, loss| Difference::of(self.study, &c.losses, pair, self.set, loss);
        self.checkpoints.iter().map(|c| Ok([of(c, Loss::Sft)?, of(c, Loss::C4)?])).collect()
    }

    fn found(&self, differences: &[[Option<Difference>; 2]]) -> String {
        if !differences.iter().flatten().flatten().any(|d| d.interval().is_some()) {
            return "No checkpoint has an interval of the difference.".to_owned();
        }
        let first_below = |loss: usize| {
            let below =
                |d: &Option<Difference>| d.as_ref().and_then(Difference::interval).is_some_and(|(_, high)| high < 0.0);
            let found = self.checkpoints.iter().zip(differences).find(|(_, d)| below(&d[loss]));
            found.map_or_else(
                || "at no checkpoint".to_owned(),
                |(c, _)| format!("first at step {} ({})", c.step, tokens(self.study, c.step)),
            )
        };
        format!(
            "The 95 % interval of the difference lies below 0 on {} {}, on general text {} (each interval alone, {} checkpoints).",
            self.study[self.set].name,
            first_below(0),
            first_below(1),
            self.checkpoints.len()
        )
    }

    fn values(&self, checkpoint: &Checkpoint, arm: ArmId, loss: Loss) -> Option<Summary> {
        checkpoint.losses.values(arm, self.set, |m| loss.of(m)).map(|values| Summary::of(&values))
    }

    fn table(&self, differences: &[[Option<Difference>; 2]]) -> Table {
        let (study, change, loss) = (self.study, Format::Signed(3), Format::Fixed(3));
        let mean = |arm: ArmId, of: Loss| self.checkpoints.iter().map(move |c| self.values(c, arm, of).map(|s| s.mean));
        let delta = |i: usize| differences.iter().map(move |d| d[i].as_ref().map(|d| d.seeds.mean));
        let interval = |i: usize| differences.iter().map(move |d| d[i].as_ref()?.interval());
        let either = || differences.iter().map(|d| d.iter().flatten().any(|d| d.interval().is_some()));
        let control = study.control();
        let unit = Unit::of(study).name();
        let title = format!("Losses after fine-tuning on {} along both runs, nats per token", study[self.set].name);
        let steps = || self.checkpoints.iter().map(|c| c.step.0);
        let accuracy = |arm: ArmId| self.checkpoints.iter().map(move |c| self.accuracy(c, arm).map(|s| s.mean));
        let table = Table::new(self.name, &title)
            .with(Column::count("step", steps()))
            .with(Column::count("tokens", steps().map(|step| step.saturating_mul(study.tokens_per_step()))).file_only())
            .with(
                Column::number("control_sft_loss", loss, mean(control, Loss::Sft))
                    .heading(study[control].name())
                    .absent("failed"),
            )
            .with(
                Column::number("sft_loss", loss, mean(self.arm, Loss::Sft))
                    .heading(study[self.arm].name())
                    .absent("failed"),
            )
            .with(Column::number("sft_delta", change, delta(0)).heading("Δ"))
            .with(Column::interval("sft_delta_ci", change, interval(0)).heading("95 % interval"))
            .with(
                Column::number("control_c4_loss", loss, mean(control, Loss::C4))
                    .heading("C4, control")
                    .documents_only(),
            )
            .with(Column::number("c4_loss", loss, mean(self.arm, Loss::C4)).heading("C4").documents_only())
            .with(Column::number("c4_delta", change, delta(1)).heading("Δ C4"))
            .with(Column::interval("c4_delta_ci", change, interval(1)).heading("95 % interval, C4").documents_only())
            .with(Column::text("unit", either().map(|known| if known { unit } else { "" })).file_only())
            .with(Column::text("family", either().map(|known| if known { ALONE } else { "" })).file_only())
            .note(format!("Intervals are over {unit}."));
        if study[self.set].items.is_none() {
            return table;
        }
        table
            .with(
                Column::number("control_accuracy", loss, accuracy(control))
                    .heading("acc, control")
                    .documents_only()
                    .meaning("share of the set's multiple-choice items whose right answer is the most likely, mean over seeds"),
            )
            .with(Column::number("accuracy", loss, accuracy(self.arm)).heading("acc"))
    }

    /// The share of the set's items that are answered rightly.
    fn accuracy(&self, checkpoint: &Checkpoint, arm: ArmId) -> Option<Summary> {
        checkpoint.losses.summary(arm, self.set, |m| m.accuracy(PerLength::Sum))
    }

    fn figure(&self) -> Figure {
        let study = self.study;
        let arms = [study.control(), self.arm];
        let scale = scale(study);
        let x: Vec<f64> =
            self.checkpoints.iter().map(|c| (c.step.0 as f64 * study.tokens_per_step() as f64) / scale.0).collect();
        let curves = |title: String, loss: Loss| {
            let summary = |arm: ArmId| self.checkpoints.iter().map(move |c| self.values(c, arm, loss));
            let band = |arm: ArmId| {
                let hole = (f64::NAN, f64::NAN);
                summary(arm).map(|s| s.and_then(|s| s.interval(LEVEL)).unwrap_or(hole)).collect::<Vec<_>>()
            };
            Curves {
                title,
                x: x.clone(),
                ys: arms.iter().map(|arm| summary(*arm).map(|s| s.map_or(f64::NAN, |s| s.mean)).collect()).collect(),
                bands: arms.iter().map(|arm| Some(band(*arm))).collect(),
                points: true,
                y_axis: None,
            }
        };
        let picture = Lines {
            x_axis: format!("pretraining tokens, {}", scale.1),
            y_axis: "nats per token".to_owned(),
            names: arms.iter().map(|arm| study[*arm].name().to_owned()).collect(),
            scaled_to: usize::MAX,
            panels: vec![
                curves(format!("loss on {} after fine-tuning", study[self.set].name), Loss::Sft),
                curves("loss on general text after it".to_owned(), Loss::C4),
            ],
            across: 2,
            from_zero: false,
            own_scales: true,
        };
        let rows: Vec<(ArmId, &Checkpoint)> =
            arms.iter().flat_map(|arm| self.checkpoints.iter().map(move |c| (*arm, c))).collect();
        let of = |loss: Loss| rows.iter().map(move |(arm, c)| self.values(c, *arm, loss));
        let loss = Format::Fixed(3);
        let title = format!(
            "Losses after fine-tuning on {} along pretraining ({})",
            study[self.set].name,
            study.spec().model_name
        );
        let data = Table::new(self.name, &title)
            .with(Column::text("mix", rows.iter().map(|(arm, _)| study[*arm].name())))
            .with(Column::count("step", rows.iter().map(|(_, c)| c.step.0)))
            .with(Column::count("tokens", rows.iter().map(|(_, c)| c.step.0.saturating_mul(study.tokens_per_step()))))
            .with(Column::number("sft_loss", loss, of(Loss::Sft).map(|s| s.map(|s| s.mean))))
            .with(Column::interval("sft_ci", loss, of(Loss::Sft).map(|s| s?.interval(LEVEL))))
            .with(Column::number("c4_loss", loss, of(Loss::C4).map(|s| s.map(|s| s.mean))))
            .with(Column::interval("c4_ci", loss, of(Loss::C4).map(|s| s?.interval(LEVEL))))
            .with(Column::text("unit", rows.iter().map(|_| seeds(study))))
            .with(Column::text("family", rows.iter().map(|_| ALONE)));
        let start = self.start().map(|start| format!("{} begins at {}.", study[self.arm].name(), tokens(study, start)));
        let bands = (study.spec().pretrain_seeds.max(study.spec().sft_seeds) > 1).then(|| {
            format!("Bands: 95 % intervals of each mean, over {}; the table has those of the difference.", seeds(study))
        });
        Figure::new(data, picture).subtitle(start.into_iter().chain(bands))
    }
}

/// What a mean over seeds is over.
pub(super) fn seeds(study: &Study) -> &'static str {
    if study.spec().pretrain_seeds > 1 { Unit::Pretraining.name() } else { Unit::FineTuning.name() }
}

/// By what tokens are divided for an axis, and what the quotient is called.
pub(super) fn scale(study: &Study) -> (f64, &'static str) {
    let all = study.spec().pretrain.steps as f64 * study.tokens_per_step() as f64;
    if all >= 2e9 { (1e9, "billions") } else { (1e6, "millions") }
}

/// So many tokens, in three digits.
pub(super) fn in_words(tokens: f64) -> String {
    let (divisor, word) = match tokens {
        t if t >= 1e9 => (1e9, " billion"),
        t if t >= 1e6 => (1e6, " million"),
        t if t >= 1e4 => (1e3, " thousand"),
        _ => return format!("{tokens:.0} tokens"),
    };
    let value = tokens / divisor;
    let decimals = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.decimals$}{word} tokens")
}

/// A step in tokens.
pub(super) fn tokens(study: &Study, step: Step) -> String {
    in_words(step.0 as f64 * study.tokens_per_step() as f64)
}
