//! The theory's terms along a study's fine-tuning paths (Section 2 and Appendix A).

use forgetting_eval::theory::{Bounds, Displacement, Initialisation, Path, Segment, Smoothness, StepCheck};
use fused_ops::Precision;
use report::{Column, Curves, Figure, Format, Lines, Page, Table, TextFile};

use super::Question;
use super::comparison::median;
use crate::graph::{Graph, Rate};
use crate::job;
use crate::{ArmId, Error, SetId, Study};

/// A path, and whose it is.
struct Walked {
    set: SetId,
    arm: ArmId,
    result: job::Walked,
}

impl Walked {
    /// The path's own estimates of smoothness: lower ones.
    fn smoothness(&self) -> Smoothness {
        self.result.path.smoothness()
    }

    fn bounds(&self) -> Bounds {
        // No log loss is below 0.
        self.result.path.bounds(self.smoothness(), 0.0)
    }
}

/// The theory's terms: of every arm's first fine-tune on every set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Theory;

impl Question for Theory {
    fn name(&self) -> &str {
        "theory"
    }

    fn needs(&self, graph: &mut Graph<'_>) -> Result<(), Error> {
        let study = graph.study();
        for set in study.sets() {
            for arm in study.arms() {
                graph.walk(arm, set)?;
            }
        }
        Ok(())
    }

    fn answer(&self, name: &str, graph: &mut Graph<'_>) -> Result<Page, Error> {
        let study = graph.study();
        let (mut walked, mut failed) = (Vec::new(), Vec::new());
        for set in study.sets() {
            for arm in study.arms() {
                let outcome = match graph.walk(arm, set)? {
                    Some(job) => graph.outcome(&job)?,
                    None => match graph.rate(arm, set)? {
                        Rate::Failed(failure) => Err(failure),
                        _ => return Err(Error::field("theory", &study[set].name, "has a rate that is not chosen yet")),
                    },
                };
                match outcome {
                    Ok(result) => walked.push(Walked { set, arm, result }),
                    Err(failure) => failed.push(format!("failed: {failure}")),
                }
            }
        }
        let mut page = Shown { name, study, walked: &walked }.page()?;
        page.notes.extend(failed);
        Ok(page)
    }
}

struct Shown<'a> {
    name: &'a str,
    study: &'a Study,
    walked: &'a [Walked],
}

impl Shown<'_> {
    fn page(&self) -> Result<Page, Error> {
        let eval = &self.study.spec().eval;
        let replayed = self.walked.iter().map(|w| w.result.end_difference).fold(0.0, f64::max);
        let mut page = Page::new(&format!("The theory's terms ({})", self.study.spec().model_name));
        page.asked =
            "What do the theory's terms say of forgetting along each fine-tune, beside what was measured?".to_owned();
        page.found = self.found();
        page.tables = vec![self.paths(), self.midtraining()];
        if !self.walked.is_empty() {
            page.figures.push(self.figure());
        }
        page.notes = vec![
            format!(
                "J_P: fixed held-out general sequences, J_T: fixed training examples, at most {} of each, drawn by the study's seed. Each fine-tune was walked again \
                 from its base, {} step(s) between points; its end differs from the stored model by at most {replayed:e} in \
                 any parameter (0e0: identical).",
                eval.path_rows, eval.path_stride
            ),
            "Eq. 3 to 5 are for gradient descent with η ≤ 1/L_T. Fine-tuning used AdamW, whose steps are far longer than \
             η·∇J_T: the columns A_alignment to eq5 are the paper's formulas at the learning rates used, and bound nothing \
             here; the columns steps_* are the same argument with the steps that were taken. Eq. 2 and 8 are checked where a step of \
             gradient descent, −η·∇J_T, from each point of the path leads; Eq. 8 needs no constant, and fails only where η > 1/L_T, against \
             assumption A.2. Eq. 2 also fails where L_P, a lower estimate along AdamW's path, is too low along the gradient. Such steps are \
             short: where products are rounded to bf16, rounding decides, and neither is shown."
                .to_owned(),
            "L_P and L_T are the largest ‖∇J(θ+Δθ) − ∇J(θ)‖/‖Δθ‖ between neighbouring points of a path: lower estimates, from the path \
             whose forgetting they bound. That a bound holds with them says little where it is many times the forgetting: tightness is \
             the share of the bound that the forgetting is, and the bound is also shown with the largest L_P of the other paths, which \
             this one did not choose."
                .to_owned(),
        ];
        if eval.path_stride > 1 {
            page.notes.push(format!(
                "With {} steps between points, first order and energy are those of chords over so many steps, and there are no sums of the \
                 paper's Eq. 3 to 5 and no checks of single steps: eval.path_stride = 1 gives them.",
                eval.path_stride
            ));
        }
        page.texts.push(TextFile {
            name: "paths.json".to_owned(),
            title: "Every point of every path".to_owned(),
            text: self.records()?,
            shown: false,
        });
        Ok(page)
    }

    fn names(&self, w: &Walked) -> [&str; 2] {
        [&self.study[w.set].name, self.study[w.arm].name()]
    }

    fn found(&self) -> Vec<String> {
        let most = self.walked.iter().max_by(|a, b| a.bounds().forgetting.total_cmp(&b.bounds().forgetting));
        let Some(most) = most else { return Vec::new() };
        let [set, mix] = self.names(most);
        let shares: Vec<f64> = self.walked.iter().filter_map(|w| w.bounds().tightness()).collect();
        let tightness = median(&shares).map_or_else(String::new, |share| {
            format!(" In the median of {} paths the forgetting is {:.0} % of it.", shares.len(), 100.0 * share)
        });
        let held = self.walked.iter().filter(|w| holds(&w.bounds())).count();
        let of_others: Vec<bool> =
            self.walked.iter().filter_map(|w| Some(w.bounds().forgetting <= self.bound_of_others(w)?)).collect();
        let others = match of_others.as_slice() {
            [] => String::new(),
            all => {
                let held = all.iter().filter(|held| **held).count();
                format!(", with the largest L_P of the other paths on {held} of {}", all.len())
            }
        };
        vec![format!(
            "The general loss rose most (or fell least) for {mix} on {set}: {:+.4} nats per token. The bound from the steps that were \
             taken held on {held} of {} paths with the path's own L_P{others}.{tightness} One path per mix and set, that of the first seeds: there are no intervals.",
            most.bounds().forgetting,
            self.walked.len(),
        )]
    }

    /// The bound from the steps that were taken with the largest L_P of the other paths; `None` of a single path.
    fn bound_of_others(&self, w: &Walked) -> Option<f64> {
        let others = self.walked.iter().filter(|other| (other.set, other.arm) != (w.set, w.arm));
        let l_p = others.map(|other| other.smoothness().l_p).max_by(f64::total_cmp)?;
        Some(w.result.path.bounds(Smoothness { l_p, ..w.smoothness() }, 0.0).actual())
    }

    fn paths(&self) -> Table {
        struct Row<'a> {
            names: [&'a str; 2],
            bounds: Bounds,
            path: &'a Path,
            of_others: Option<f64>,
        }
        let row = |w| Row {
            names: self.names(w),
            bounds: w.bounds(),
            path: &w.result.path,
            of_others: self.bound_of_others(w),
        };
        // The paper's sums are over single steps.
        let single = self.study.spec().eval.path_stride == 1;
        let rows: Vec<Row<'_>> = self.walked.iter().map(row).collect();
        let signed = |name: &str, value: fn(&Bounds) -> f64| {
            Column::number(name, Format::Signed(4), rows.iter().map(|r| value(&r.bounds)))
        };
        let fixed = |name: &str, value: fn(&Bounds) -> f64| {
            Column::number(name, Format::Fixed(2), rows.iter().map(|r| value(&r.bounds)))
        };
        let paper = |name: &str, value: fn(&Bounds) -> f64| {
            let of = |r: &Row<'_>| single.then(|| value(&r.bounds));
            Column::number(name, Format::Signed(4), rows.iter().map(of)).documents_only()
        };
        // Of steps so short rounding to fewer bits than f32's would decide.
        let checked = single && self.study.spec().pretrain.precision == Precision::F32;
        let held = |name: &str, check: Check| {
            let of = |r: &Row<'_>| {
                let found = check(r.path, r.bounds.smoothness).filter(|_| checked);
                found.map_or_else(String::new, |found| format!("{} of {}", found.held, found.steps))
            };
            Column::text(name, rows.iter().map(of)).documents_only()
        };
        // How far the worst step was from holding: above 0 it did not.
        let worst = |name: &str, check: Check| {
            let of = |r: &Row<'_>| Some(check(r.path, r.bounds.smoothness).filter(|_| checked)?.worst?.1);
            Column::number(name, Format::Signed(6), rows.iter().map(of)).file_only()
        };
        let of_path = |name: &str, format, value: fn(&Path) -> Option<f64>| {
            Column::number(name, format, rows.iter().map(|r| value(r.path)))
        };
        Table::new(self.name, "Forgetting along fine-tuning, Δ_P = J_P(θ_K) − J_P(θ_0), and its bounds (Eq. 3 to 5, 9)")
            .with(Column::text("dataset", rows.iter().map(|r| r.names[0])).heading("set"))
            .with(Column::text("mix", rows.iter().map(|r| r.names[1])))
            .with(signed("forgetting", |b| b.forgetting).heading("Δ_P"))
            .with(signed("steps_alignment", |b| b.actual_alignment).heading("first order"))
            .with(signed("steps_energy", |b| b.actual_energy).heading("energy").documents_only())
            .with(
                signed("steps_bound", Bounds::actual)
                    .heading("bound")
                    .meaning("Σ⟨∇J_P, Δθ⟩ + L_P/2·Σ‖Δθ‖² with the steps that were taken"),
            )
            .with(
                Column::text("holds", rows.iter().map(|r| yes(holds(&r.bounds))))
                    .meaning("whether the forgetting is at most the bound"),
            )
            .with(
                Column::number("tightness", Format::Fixed(2), rows.iter().map(|r| r.bounds.tightness()))
                    .meaning("the share of the bound that the forgetting is; near 0 the bound says little"),
            )
            .with(
                Column::number("bound_of_others", Format::Signed(4), rows.iter().map(|r| r.of_others))
                    .documents_only()
                    .meaning("the bound with the largest L_P of the other paths"),
            )
            .with(
                held("eq7_steps", |p, s| Some(p.eq7(s.l_p)))
                    .heading("Eq. 7, steps")
                    .meaning("on how many steps J_P rose by at most ⟨∇J_P, Δθ⟩ + L_P/2·‖Δθ‖²"),
            )
            .with(
                held("eq2_steps", |p, s| p.eq2(s.l_p))
                    .heading("Eq. 2, steps")
                    .meaning("the same for a step of gradient descent, −η·∇J_T, from each point"),
            )
            .with(
                held("eq8_steps", |p, _| p.eq8()).heading("Eq. 8, steps").meaning(
                    "from how many points a step of gradient descent, −η·∇J_T, lowers J_T by at least η/2·‖∇J_T‖²: where not, η > 1/L_T, \
                     against assumption A.2",
                ),
            )
            .with(
                held("eq13_steps", |p, s| Some(p.eq13(s.l_t)))
                    .heading("Eq. 13, steps")
                    .meaning("on how many steps J_T rose by at most ⟨∇J_T, Δθ⟩ + L_T/2·‖Δθ‖²"),
            )
            .with(worst("eq7_worst", |p, s| Some(p.eq7(s.l_p))))
            .with(worst("eq2_worst", |p, s| p.eq2(s.l_p)))
            .with(worst("eq8_worst", |p, _| p.eq8()))
            .with(worst("eq13_worst", |p, s| Some(p.eq13(s.l_t))))
            .with(
                of_path("cosine_first", Format::Signed(3), |p| p.segments.first().map(Segment::cosine))
                    .documents_only(),
            )
            .with(
                of_path("cosine_mean", Format::Signed(3), mean_cosine)
                    .heading("cosine")
                    .meaning("of the gradients of J_P and J_T, mean over the path"),
            )
            .with(paper("A_alignment", |b| b.alignment).heading("A"))
            .with(paper("B_energy", |b| b.energy).heading("B"))
            .with(paper("eq3", Bounds::eq3).heading("Eq. 3"))
            .with(paper("eq4", Bounds::eq4).heading("Eq. 4"))
            .with(paper("eq5", Bounds::eq5).heading("Eq. 5").meaning("with J_T* = 0"))
            .with(fixed("L_P", |b| b.smoothness.l_p).documents_only())
            .with(fixed("L_T", |b| b.smoothness.l_t).documents_only())
            .with(
                Column::number(
                    "eta_L_T",
                    Format::Fixed(2),
                    rows.iter().map(|r| single.then_some(r.bounds.rate_times_l_t)),
                )
                .heading("η·L_T")
                .documents_only()
                .meaning("the largest step size times L_T; above 1, Eq. 4 and 5 assume what is not so"),
            )
            .with(of_path("J_T_first", Format::Fixed(4), |p| p.losses_t.first().copied()).documents_only())
            .with(of_path("J_T_last", Format::Fixed(4), |p| p.losses_t.last().copied()).documents_only())
            .grouped()
    }

    fn midtraining(&self) -> Table {
        struct Row<'a> {
            names: [&'a str; 2],
            bounds: Bounds,
            l_t: f64,
            i: &'a Initialisation,
            d: &'a Displacement,
        }
        let row = |w| {
            let Walked { result, .. }: &Walked = w;
            let (i, d) = (result.initialisation.as_ref()?, result.displacement.as_ref()?);
            Some(Row { names: self.names(w), bounds: w.bounds(), l_t: w.smoothness().l_t, i, d })
        };
        let rows: Vec<Row<'_>> = self.walked.iter().filter_map(row).collect();
        let number =
            |name: &str, format, value: fn(&Row<'_>) -> f64| Column::number(name, format, rows.iter().map(value));
        let maybe = |name: &str, format, value: fn(&Row<'_>) -> Option<f64>| {
            Column::number(name, format, rows.iter().map(value))
        };
        let single = self.study.spec().eval.path_stride == 1;
        let (three, four, signed) = (Format::Fixed(3), Format::Fixed(4), Format::Signed(4));
        // A lower estimate of L_T can refute the condition, not show it.
        let eq15 = |r: &Row<'_>| {
            let (left, right) = r.i.eq15(r.l_t);
            if left <= right { "not refuted" } else { "refuted" }
        };
        Table::new("midtraining", "What midtraining changed before fine-tuning began (Eq. 14 to 19)")
            .with(Column::text("dataset", rows.iter().map(|r| r.names[0])).heading("set"))
            .with(Column::text("mix", rows.iter().map(|r| r.names[1])))
            .with(number("J_T_before", four, |r| r.i.loss_before).heading("J_T before"))
            .with(number("J_T_after", four, |r| r.i.loss_after).heading("J_T after"))
            .with(number("linear", signed, |r| r.i.linear).meaning("⟨∇J_T(θ_pre), δ⟩"))
            .with(number("delta_norm", four, |r| r.i.displacement_square.sqrt()).heading("‖δ‖"))
            .with(maybe("cosine", Format::Signed(3), |r| r.i.cosine()))
            .with(
                number("L_T", three, |r| r.l_t).documents_only().meaning("as the fine-tuning path shows it: a lower estimate"),
            )
            .with(
                maybe("L_T_least", three, |r| r.i.least_l_t())
                    .documents_only()
                    .meaning("the least L_T with which Eq. 14 holds: also a lower estimate"),
            )
            .with(
                maybe("L_T_largest", three, |r| r.i.largest_l_t())
                    .documents_only()
                    .meaning("the largest L_T with which Eq. 15 would hold"),
            )
            .with(
                number("eq14", four, |r| r.i.eq14(r.l_t))
                    .heading("Eq. 14")
                    .documents_only()
                    .meaning("bound on J_T after midtraining, with the path's L_T"),
            )
            .with(
                Column::text("eq14_holds", rows.iter().map(|r| yes(r.i.loss_after <= r.i.eq14(r.l_t))))
                    .heading("Eq. 14 holds")
                    .documents_only()
                    .meaning("where not, the path's L_T is too low between the two models"),
            )
            .with(
                Column::text("eq15", rows.iter().map(eq15))
                    .heading("Eq. 15")
                    .documents_only()
                    .meaning(
                        "the sufficient condition for a lower J_T, with the path's L_T: a lower estimate, which can only refute it",
                    ),
            )
            .with(Column::count("steps", rows.iter().map(|r| r.d.steps)).documents_only())
            .with(
                number("path_length", three, |r| r.d.length)
                    .documents_only()
                    .meaning("Σ‖φ_{u+1} − φ_u‖ from the log, at least ‖δ‖"),
            )
            .with(number("alpha", Format::Scientific(2), |r| r.d.alpha).heading("α").documents_only())
            .with(number("G", Format::Scientific(2), |r| r.d.g).documents_only())
            .with(number("S", Format::Fixed(2), |r| r.d.s).documents_only())
            .with(
                number("eq17", three, |r| r.d.eq17())
                    .heading("Eq. 17")
                    .documents_only()
                    .meaning("α·G·S, at least path_length"),
            )
            .with(number("eq18", three, |r| r.d.eq18(r.l_t)).heading("Eq. 18").documents_only())
            .with(
                Column::number("eq19", three, rows.iter().map(|r| single.then(|| r.d.eq19(&r.bounds, r.i))))
                    .heading("Eq. 19")
                    .documents_only(),
            )
            .grouped()
    }

    fn figure(&self) -> Figure {
        struct Point<'a> {
            names: [&'a str; 2],
            k: usize,
            /// Measured, first order, bound.
            ys: [f64; 3],
        }
        let (mut points, mut panels) = (Vec::new(), Vec::new());
        for w in self.walked {
            let names = self.names(w);
            let curve = along(w);
            let last = (curve.len() - 1).max(1) as f64;
            panels.push(Curves {
                title: format!("{}, fine-tuned on {}", names[1], names[0]),
                x: (0..curve.len()).map(|k| k as f64 * w.result.steps as f64 / last).collect(),
                ys: (0..3).map(|i| curve.iter().map(|ys| ys[i]).collect()).collect(),
                bands: Vec::new(),
                points: false,
                y_axis: None,
            });
            points.extend(curve.into_iter().enumerate().map(|(k, ys)| Point { names, k, ys }));
        }
        let title = format!(
            "Forgetting along fine-tuning, J_P(θ_k) − J_P(θ_0), and its bound ({})",
            self.study.spec().model_name
        );
        let y = |name: &str, i: usize| Column::number(name, Format::Signed(4), points.iter().map(move |p| p.ys[i]));
        let data = Table::new(self.name, &title)
            .with(Column::text("dataset", points.iter().map(|p| p.names[0])))
            .with(Column::text("mix", points.iter().map(|p| p.names[1])))
            .with(Column::count("point", points.iter().map(|p| p.k as u64)))
            .with(y("measured", 0))
            .with(y("first_order", 1))
            .with(y("bound", 2));
        let picture = Lines {
            x_axis: "step of fine-tuning".to_owned(),
            y_axis: "nats per token".to_owned(),
            names: ["measured", "first order (gradient of J_P times step)", "bound (with L_P/2 times squared step)"]
                .map(str::to_owned)
                .to_vec(),
            // The bound is far above what is measured: on its scale nothing else would be seen.
            scaled_to: 2,
            panels,
            across: self.study.arms().count().clamp(1, 3),
            from_zero: true,
            own_scales: false,
        };
        Figure::new(data, picture)
    }

    fn records(&self) -> Result<String, Error> {
        let record = |w: &Walked| {
            let [set, arm] = self.names(w);
            serde_json::json!({ "dataset": set, "mix": arm, "bounds": w.bounds(), "result": w.result })
        };
        let records: Vec<serde_json::Value> = self.walked.iter().map(record).collect();
        let bytes = crate::files::json("paths.json", &records)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

fn yes(is: bool) -> &'static str {
    if is { "yes" } else { "no" }
}

/// An inequality checked step by step.
type Check = fn(&Path, Smoothness) -> Option<StepCheck>;

/// Whether the forgetting is at most the bound from the steps that were taken.
fn holds(bounds: &Bounds) -> bool {
    bounds.forgetting <= bounds.actual()
}

fn mean_cosine(path: &Path) -> Option<f64> {
    let count = path.segments.len();
    (count > 0).then(|| path.segments.iter().map(Segment::cosine).sum::<f64>() / count as f64)
}

/// At each point of a path: the forgetting measured, its first order, and its bound.
fn along(w: &Walked) -> Vec<[f64; 3]> {
    let path = &w.result.path;
    let l_p = w.smoothness().l_p;
    let (mut out, mut first, mut energy) = (vec![[0.0; 3]], 0.0, 0.0);
    for (segment, loss) in path.segments.iter().zip(&path.losses_p[1..]) {
        first += segment.step_dot_p;
        energy += l_p / 2.0 * segment.step_square;
        out.push([loss - path.losses_p[0], first, first + energy]);
    }
    out
}
