//! The theory's terms along a study's fine-tuning paths (Section 2 and Appendix A).

use forgetting_eval::theory::{Bounds, Smoothness};

use super::{Question, number, signed};
use crate::graph::{Graph, Rate};
use crate::job;
use crate::render::lines::{Curves, Lines};
use crate::render::page::{Figure, Picture};
use crate::{ArmId, DataTable, Error, Page, SetId};

/// A path, and whose it is.
struct Walked {
    set: SetId,
    arm: ArmId,
    result: job::Walked,
}

impl Walked {
    /// With the path's own estimates of smoothness; where Eq. 14 needs a larger L_T, with that.
    fn smoothness(&self) -> Smoothness {
        let seen = self.result.path.smoothness();
        let needed = self.result.initialisation.map_or(0.0, |i| i.least_l_t());
        Smoothness { l_t: seen.l_t.max(needed), ..seen }
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

    fn answer(&self, graph: &mut Graph<'_>) -> Result<Page, Error> {
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
        let mut page = page(graph, &walked)?;
        page.notes.extend(failed);
        Ok(page)
    }
}

fn page(graph: &Graph<'_>, walked: &[Walked]) -> Result<Page, Error> {
    let (study, spec) = (graph.study(), graph.study().spec());
    let names = |w: &Walked| [study[w.set].name.clone(), study[w.arm].name().to_owned()];
    let title = format!("The theory's terms ({})", spec.model_name);
    let path = path_table(walked, &names);
    let figures =
        if walked.is_empty() { Vec::new() } else { vec![figure(walked, &names, &title, study.arms().count())] };
    let replayed = walked.iter().map(|w| w.result.end_difference).fold(0.0, f64::max);
    let notes = vec![
        format!(
            "J_P: {} fixed held-out general sequences; J_T: {} fixed training examples. Each fine-tune was walked again \
             from its base, {} step(s) between points; its end differs from the stored model by at most {replayed:e} in \
             any parameter.",
            spec.eval.path_rows, spec.eval.path_rows, spec.eval.path_stride
        ),
        "Eq. 3 to 5 are for gradient descent with η ≤ 1/L_T. Fine-tuning used AdamW, whose steps are far longer than η·∇J_T: \
         the columns A_alignment to eq5 are the paper's formulas at the learning rates used, and bound nothing here; the \
         columns steps_* are the same argument with the steps that were taken."
            .to_owned(),
        "L_P and L_T are the largest ‖∇J(θ+Δθ) − ∇J(θ)‖/‖Δθ‖ between neighbouring points: lower estimates. A steps_bound \
         below the forgetting would refute the estimate, not the theorem."
            .to_owned(),
    ];
    Ok(Page {
        title,
        tables: vec![path, midtraining_table(walked, &names)],
        figures,
        notes,
        files: vec![("paths.json".to_owned(), crate::files::json("paths.json", &records(walked, &names))?)],
        ..Page::default()
    })
}

type Names<'a> = &'a dyn Fn(&Walked) -> [String; 2];

fn path_table(walked: &[Walked], names: Names<'_>) -> DataTable {
    let header = [
        "dataset",
        "mix",
        "forgetting",
        "A_alignment",
        "B_energy",
        "eq3",
        "eq4",
        "eq5",
        "steps_alignment",
        "steps_energy",
        "steps_bound",
        "holds",
        "cosine_first",
        "cosine_mean",
        "L_P",
        "L_T",
        "eta_L_T",
        "J_T_first",
        "J_T_last",
    ];
    let title = "Forgetting along fine-tuning, Δ_P = J_P(θ_K) − J_P(θ_0), and its bounds (Eq. 3 to 5, 9)";
    let mut table = DataTable::new("theory", title, &header);
    for w in walked {
        let (b, path) = (w.bounds(), &w.result.path);
        let cosines: Vec<f64> = path.segments.iter().map(forgetting_eval::theory::Segment::cosine).collect();
        let mean = cosines.iter().sum::<f64>() / cosines.len() as f64;
        let last = path.losses_t[path.losses_t.len() - 1];
        let values = [b.forgetting, b.alignment, b.energy, b.eq3(), b.eq4(), b.eq5()];
        let steps = [b.actual_alignment, b.actual_energy, b.actual()];
        let mut row = names(w).to_vec();
        row.extend(values.into_iter().chain(steps).map(|v| signed(v, 4)));
        row.push(if b.forgetting <= b.actual() { "yes" } else { "no" }.to_owned());
        row.extend([signed(cosines.first().copied().unwrap_or(f64::NAN), 3), signed(mean, 3)]);
        row.extend([b.smoothness.l_p, b.smoothness.l_t, b.rate_times_l_t].map(|v| number(v, 2)));
        row.extend([path.losses_t[0], last].map(|v| number(v, 4)));
        table.rows.push(row);
    }
    table.notes.push(
        "holds: forgetting ≤ steps_bound = Σ⟨∇J_P, Δθ⟩ + L_P/2·Σ‖Δθ‖² with the steps that were taken. eta_L_T: the largest \
         step size times L_T; above 1, Eq. 4 and 5 assume what is not so. J_T* = 0 in eq5."
            .to_owned(),
    );
    table
}

fn midtraining_table(walked: &[Walked], names: Names<'_>) -> DataTable {
    let header = [
        "dataset",
        "mix",
        "J_T_before",
        "J_T_after",
        "linear",
        "delta_norm",
        "cosine",
        "L_T_least",
        "eq14",
        "eq15",
        "steps",
        "path_length",
        "alpha",
        "G",
        "S",
        "eq17",
        "eq18",
        "eq19",
    ];
    let title = "What midtraining changed before fine-tuning began (Eq. 14 to 19)";
    let mut table = DataTable::new("midtraining", title, &header);
    for w in walked {
        let (Some(i), Some(d)) = (&w.result.initialisation, &w.result.displacement) else { continue };
        let (bounds, l_t) = (w.bounds(), w.smoothness().l_t);
        let (left, right) = i.eq15(l_t);
        let mut row = names(w).to_vec();
        row.extend([i.loss_before, i.loss_after].map(|v| number(v, 4)));
        row.push(signed(i.linear, 4));
        row.push(number(i.displacement_square.sqrt(), 4));
        row.push(signed(i.cosine(), 3));
        row.push(number(i.least_l_t(), 3));
        row.push(number(i.eq14(l_t), 4));
        row.push(if left <= right { "holds" } else { "does not" }.to_owned());
        row.push(d.steps.to_string());
        row.push(number(d.length, 3));
        row.push(format!("{:.2e}", d.alpha));
        row.push(format!("{:.2e}", d.g));
        row.push(number(d.s, 2));
        row.extend([d.eq17(), d.eq18(l_t), d.eq19(&bounds, i)].map(|v| number(v, 3)));
        table.rows.push(row);
    }
    table.notes.push(
        "linear: ⟨∇J_T(θ_pre), δ⟩. eq14: bound on J_T after midtraining. eq15: whether the sufficient condition for a lower \
         J_T holds. path_length: Σ‖φ_{u+1} − φ_u‖ from the log, at least delta_norm = ‖δ‖; eq17 = α·G·S, at least path_length."
            .to_owned(),
    );
    table
}

fn figure(walked: &[Walked], names: Names<'_>, title: &str, arms: usize) -> Figure {
    let curves =
        ["measured", "first order (gradient of J_P times step)", "bound (first order + L_P/2 times squared step)"]
            .map(str::to_owned);
    let mut data = DataTable::new("theory", title, &["dataset", "mix", "point", "measured", "first_order", "bound"]);
    let mut panels = Vec::new();
    for w in walked {
        let path = &w.result.path;
        let l_p = w.smoothness().l_p;
        let mut ys = vec![vec![0.0], vec![0.0], vec![0.0]];
        let (mut first, mut energy) = (0.0, 0.0);
        for (segment, loss) in path.segments.iter().zip(&path.losses_p[1..]) {
            first += segment.step_dot_p;
            energy += l_p / 2.0 * segment.step_square;
            ys[0].push(loss - path.losses_p[0]);
            ys[1].push(first);
            ys[2].push(first + energy);
        }
        let points = path.losses_p.len();
        let x: Vec<f64> = (0..points).map(|k| k as f64 * w.result.steps as f64 / (points - 1).max(1) as f64).collect();
        let [set, arm] = names(w);
        for k in 0..points {
            let values = ys.iter().map(|y| number(y[k], 6));
            data.rows.push([set.clone(), arm.clone(), k.to_string()].into_iter().chain(values).collect());
        }
        panels.push(Curves { title: format!("{arm}, fine-tuned on {set}"), x, ys });
    }
    let picture = Lines {
        title: format!("{title}: forgetting along fine-tuning, J_P(θ_k) − J_P(θ_0)"),
        x_axis: "step of fine-tuning".to_owned(),
        y_axis: "nats per token".to_owned(),
        names: curves.to_vec(),
        panels,
        across: arms.clamp(1, 3),
    };
    Figure { name: "theory".to_owned(), data, picture: Picture::Lines(picture) }
}

fn records(walked: &[Walked], names: Names<'_>) -> serde_json::Value {
    let record = |w: &Walked| {
        let [set, arm] = names(w);
        serde_json::json!({ "dataset": set, "mix": arm, "bounds": w.bounds(), "result": w.result })
    };
    walked.iter().map(record).collect()
}
