//! Figure 8: how the training loss falls in fine-tuning, from the midtrained model and from the control.

use forgetting_eval::Summary;
use report::{Column, Curves, Figure, Format, Lines, Page, Table};

use super::Question;
use super::comparison::{ALONE, LEVEL, Unit, unit_of_seeds};
use super::figure5::seeds;
use crate::graph::{Cell, Graph, Rate};
use crate::protocol::{Arm, PYCODE, STARCODER, SftSet};
use crate::{ArmId, Error, SetId, Study};

/// Steps at each end of a fine-tune over which losses are averaged, as a share of all.
const ENDS: usize = 10;

/// The training losses of an arm's and the control's fine-tunes on a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figure8<'a> {
    /// The midtrained arm.
    pub arm: &'a str,
    /// The set.
    pub set: &'a str,
}

impl<'a> Figure8<'a> {
    /// Of an arm and a set of a protocol.
    pub const fn of(arm: Arm<'a>, set: SftSet<'a>) -> Self {
        Self { arm: arm.name, set: set.name }
    }

    /// The paper's: 20 % Starcoder, fine-tuned on Pycode.
    pub const PAPER: Figure8<'static> = Figure8::of(STARCODER, PYCODE);
}

/// The training losses of a fine-tune, step by step; why there are none.
type Losses = Result<Vec<Option<f64>>, String>;

impl Figure8<'_> {
    fn places(&self, study: &Study) -> Result<(ArmId, SetId), Error> {
        Ok((study.arm_named(self.arm)?, study.set_named(self.set)?))
    }

    /// Adds the jobs, by seed: pretraining seeds, and of one alone fine-tuning seeds.
    fn ask(&self, graph: &mut Graph<'_>, arm: ArmId, read: bool) -> Result<Vec<Vec<Losses>>, Error> {
        let (_, set) = self.places(graph.study())?;
        let spec = graph.study().spec();
        let mut out = Vec::new();
        for pretrain_seed in 0..spec.pretrain_seeds {
            let mut of_run = Vec::new();
            for sft_seed in 0..spec.sft_seeds {
                let tuned = match graph.rate(arm, set)? {
                    Rate::Pending => continue,
                    Rate::Failed(failure) => {
                        of_run.push(Err(failure.to_string()));
                        continue;
                    }
                    Rate::Known(lr) => graph.finetune_with(Cell { arm, set, pretrain_seed, sft_seed }, lr)?,
                };
                let curve = graph.curve(&tuned);
                if read {
                    of_run
                        .push(graph.outcome(&curve)?.map(|found| found.losses).map_err(|failure| failure.to_string()));
                }
            }
            out.push(of_run);
        }
        Ok(out)
    }
}

impl Question for Figure8<'_> {
    fn name(&self) -> &str {
        "figure8"
    }

    fn check(&self, study: &Study) -> Result<(), Error> {
        self.places(study).map(|_| ())
    }

    fn needs(&self, graph: &mut Graph<'_>) -> Result<(), Error> {
        let (arm, _) = self.places(graph.study())?;
        [graph.study().control(), arm].into_iter().try_for_each(|arm| self.ask(graph, arm, false).map(|_| ()))
    }

    fn answer(&self, name: &str, graph: &mut Graph<'_>) -> Result<Page, Error> {
        let study = graph.study();
        let (arm, set) = self.places(study)?;
        let asked = [self.ask(graph, study.control(), true)?, self.ask(graph, arm, true)?];
        let reasons = asked.iter().flatten().flatten().filter_map(|losses| losses.as_ref().err());
        let mut failed: Vec<String> = reasons.map(|reason| format!("failed: {reason}")).collect();
        failed.dedup();
        let curves = [by_seed(study, &asked[0]), by_seed(study, &asked[1])];
        let shown = Shown { study, name, arm, set, curves };
        let mut page = shown.page();
        page.found.extend(failed);
        Ok(page)
    }
}

/// A training loss a step; NaN where a step was left out.
type Curve = Vec<f64>;

/// One curve a seed, each in its place, so that both arms' are those of the same batches: with several pretraining seeds the mean over
/// each one's fine-tunes. Where one of these failed there is none: a mean over others would be of other batches.
fn by_seed(study: &Study, asked: &[Vec<Losses>]) -> Vec<Option<Curve>> {
    let curve = |losses: &Losses| -> Option<Curve> {
        losses.as_ref().ok().map(|losses| losses.iter().map(|loss| loss.unwrap_or(f64::NAN)).collect())
    };
    if study.spec().pretrain_seeds == 1 {
        return asked.iter().flatten().map(curve).collect();
    }
    let mean = |of_run: &Vec<Losses>| {
        let all = of_run.iter().map(curve).collect::<Option<Vec<Curve>>>()?;
        let steps = all.iter().map(Vec::len).min()?;
        Some((0..steps).map(|step| all.iter().map(|c| c[step]).sum::<f64>() / all.len() as f64).collect())
    };
    asked.iter().map(mean).collect()
}

/// The mean of what is finite.
fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.filter(|v| v.is_finite()).fold((0.0, 0u64), |(sum, count), v| (sum + v, count + 1));
    (count > 0).then(|| sum / count as f64)
}

struct Shown<'a> {
    study: &'a Study,
    name: &'a str,
    arm: ArmId,
    set: SetId,
    /// The control's and the arm's, by seed.
    curves: [Vec<Option<Curve>>; 2],
}

/// A part of the fine-tune.
struct Part {
    name: String,
    /// Means over seeds.
    means: [Option<f64>; 2],
    difference: Option<Summary>,
}

impl Shown<'_> {
    fn steps(&self) -> usize {
        self.curves.iter().flatten().flatten().map(Vec::len).min().unwrap_or(0)
    }

    fn page(&self) -> Page {
        let study = self.study;
        let [arm, control, set] = [study[self.arm].name(), study[study.control()].name(), &study[self.set].name];
        let parts = self.parts();
        let mut page = Page::new(&format!("{} ({})", super::heading(self.name), study.spec().model_name));
        page.asked =
            format!("Does fine-tuning on {set} begin lower from {arm} than from {control}, and does it stay lower?");
        let said = |part: &Part| {
            let difference = part.difference.as_ref()?;
            let interval = difference.interval(LEVEL).map_or_else(
                || "no interval: one seed".to_owned(),
                |(low, high)| format!("95 % interval {low:+.3} to {high:+.3}"),
            );
            Some(format!("{}: {:+.3} nats per token ({interval})", part.name, difference.mean))
        };
        let said: Vec<String> = parts.iter().filter_map(said).collect();
        page.found = vec![match said.as_slice() {
            [] => "There is nothing to compare.".to_owned(),
            said => format!("Training loss of {arm} less that of {control}: {}.", said.join("; ")),
        }];
        page.found.push(unit_of_seeds(study));
        page.notes = vec![
            "A step's loss is that of its batch before the update, in nats per predicted token; with one seed both models see the same \
             batches in the same order, so that differences are paired step by step. Training losses are not held-out losses: Table 2 has \
             those."
                .to_owned(),
        ];
        page.tables = vec![self.table(&parts)];
        page.figures = vec![self.figure()];
        page
    }

    fn parts(&self) -> Vec<Part> {
        let steps = self.steps();
        let end = steps.div_ceil(ENDS).max(1).min(steps);
        let parts = [
            ("first step".to_owned(), 0..steps.min(1)),
            (format!("first {end} steps"), 0..end),
            ("all steps".to_owned(), 0..steps),
            (format!("last {end} steps"), steps - end..steps),
        ];
        let [control, arm] = &self.curves;
        let part = |(name, steps): (String, std::ops::Range<usize>)| {
            let of = |curves: &[Option<Curve>]| {
                mean(curves.iter().flatten().filter_map(|curve| mean(curve[steps.clone()].iter().copied())))
            };
            let both = control.iter().zip(arm).filter_map(|(control, arm)| control.as_ref().zip(arm.as_ref()));
            let difference =
                |(control, arm): (&Curve, &Curve)| mean(steps.clone().map(|step| arm[step] - control[step]));
            let differences: Vec<f64> = both.filter_map(difference).collect();
            Part {
                name,
                means: [of(control), of(arm)],
                difference: (!differences.is_empty()).then(|| Summary::of(&differences)),
            }
        };
        parts.into_iter().map(part).collect()
    }

    fn table(&self, parts: &[Part]) -> Table {
        let (study, loss, change) = (self.study, Format::Fixed(3), Format::Signed(3));
        let interval = |p: &Part| p.difference.as_ref().and_then(|d| d.interval(LEVEL));
        let unit = if study.spec().pretrain_seeds > 1 { Unit::Pretraining } else { Unit::FineTuning };
        Table::new(self.name, &format!("Training loss in fine-tuning on {}, means over seeds", study[self.set].name))
            .with(Column::text("part", parts.iter().map(|p| p.name.as_str())))
            .with(
                Column::number("control", loss, parts.iter().map(|p| p.means[0]))
                    .heading(study[study.control()].name()),
            )
            .with(Column::number("arm", loss, parts.iter().map(|p| p.means[1])).heading(study[self.arm].name()))
            .with(
                Column::number("difference", change, parts.iter().map(|p| p.difference.as_ref().map(|d| d.mean)))
                    .heading("Δ"),
            )
            .with(Column::interval("ci", change, parts.iter().map(interval)).heading("95 % interval"))
            .with(
                Column::count("seeds", parts.iter().map(|p| p.difference.as_ref().map(|d| d.n as u64)))
                    .documents_only(),
            )
            .with(Column::text("unit", parts.iter().map(|p| interval(p).map_or("", |_| unit.name()))).file_only())
            .with(Column::text("family", parts.iter().map(|p| interval(p).map_or("", |_| ALONE))).file_only())
    }

    fn figure(&self) -> Figure {
        let (study, steps) = (self.study, self.steps());
        let arms = [study.control(), self.arm];
        let at = |arm: usize, step: usize| self.curves[arm].iter().flatten().map(move |curve| curve[step]);
        let middle = |arm: usize, step: usize| mean(at(arm, step)).unwrap_or(f64::NAN);
        // NaN where there is nothing.
        let range =
            |arm: usize, step: usize| at(arm, step).fold((f64::NAN, f64::NAN), |(l, h), v| (l.min(v), h.max(v)));
        let per = |arm: usize| (0..steps).map(move |step| middle(arm, step)).collect::<Vec<f64>>();
        let band = |arm: usize| (0..steps).map(move |step| range(arm, step)).collect::<Vec<_>>();
        let picture = Lines {
            x_axis: "step of fine-tuning".to_owned(),
            y_axis: "training loss, nats per token".to_owned(),
            names: arms.iter().map(|arm| study[*arm].name().to_owned()).collect(),
            scaled_to: usize::MAX,
            panels: vec![Curves {
                title: format!("{}: fine-tuning on {}", study.spec().model_name, study[self.set].name),
                x: (0..steps).map(|step| step as f64).collect(),
                ys: vec![per(0), per(1)],
                bands: vec![Some(band(0)), Some(band(1))],
                points: false,
                y_axis: None,
            }],
            across: 1,
            from_zero: false,
            own_scales: true,
        };
        let rows: Vec<(usize, usize)> =
            (0..arms.len()).flat_map(|arm| (0..steps).map(move |step| (arm, step))).collect();
        let loss = Format::Fixed(4);
        let title = format!("Training loss in fine-tuning on {} ({})", study[self.set].name, study.spec().model_name);
        let data = Table::new(self.name, &title)
            .with(Column::text("mix", rows.iter().map(|(arm, _)| study[arms[*arm]].name())))
            .with(Column::count("step", rows.iter().map(|(_, step)| *step as u64)))
            .with(Column::number("loss", loss, rows.iter().map(|(arm, step)| middle(*arm, *step))))
            .with(Column::number("lowest", loss, rows.iter().map(|(arm, step)| range(*arm, *step).0)))
            .with(Column::number("highest", loss, rows.iter().map(|(arm, step)| range(*arm, *step).1)))
            .with(Column::count(
                "seeds",
                rows.iter().map(|(arm, _)| self.curves[*arm].iter().flatten().count() as u64),
            ));
        Figure::new(data, picture).subtitle([match study.spec().pretrain_seeds.max(study.spec().sft_seeds) {
            1 => "One seed.".to_owned(),
            _ => format!("Lines: means over {}; bands: from the lowest to the highest.", seeds(study)),
        }])
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::protocol::{C4, Protocol};

    fn with(curves: [Vec<Option<Curve>>; 2], check: impl Fn(&Shown<'_>)) {
        let protocol = Protocol { arms: &[C4, STARCODER], sft: &[PYCODE], ..Protocol::PAPER };
        let study = Study::new(crate::preset("smoke", &protocol).unwrap()).unwrap();
        let (arm, set) = Figure8::PAPER.places(&study).unwrap();
        check(&Shown { study: &study, name: "figure8", arm, set, curves });
    }

    #[test]
    fn seeds_are_paired_with_themselves() {
        let curve = |from: f64| Some(vec![from, from - 1.0, from - 2.0]);
        // Each arm lacks another seed: one pair is left.
        with([vec![curve(9.0), None, curve(7.0)], vec![None, curve(1.0), curve(6.0)]], |shown| {
            for part in shown.parts() {
                let difference = part.difference.unwrap();
                assert_eq!((difference.n, difference.mean), (1, -1.0), "{}", part.name);
            }
            assert_eq!(shown.parts()[0].means, [Some(8.0), Some(3.5)]);
        });
        // None is left.
        with([vec![curve(9.0), None], vec![None, curve(1.0)]], |shown| {
            assert!(shown.parts().iter().all(|part| part.difference.is_none()));
        });
    }

    /// A step that was left out has no loss; an arm without a result has no curve.
    #[test]
    fn what_is_missing_is_no_number() {
        let holes = vec![Some(vec![3.0, f64::NAN, 1.0])];
        with([vec![Some(vec![4.0, 3.0, 2.0])], holes], |shown| {
            let parts = shown.parts();
            assert_eq!(parts[2].difference.unwrap().mean, -1.0, "over the steps that both have");
        });
        with([vec![Some(vec![4.0, 3.0, 2.0])], vec![None]], |shown| {
            assert!(shown.parts().iter().all(|part| part.means[1].is_none() && part.difference.is_none()));
            let dir = tempfile::tempdir().unwrap();
            shown.page().write(dir.path()).unwrap();
            let csv = std::fs::read_to_string(dir.path().join("figures/figure8.csv")).unwrap();
            let of_arm: Vec<&str> = csv.lines().filter(|line| line.starts_with("Starcoder")).collect();
            assert_eq!(of_arm.len(), 3);
            assert!(of_arm.iter().all(|line| line.ends_with(",,,,0")), "{of_arm:?}");
        });
    }
}
