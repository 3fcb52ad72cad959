//! The terms of the forgetting bound on quadratics.

use std::path::Path as FilePath;

use forgetting_eval::theory::{Path, PathError, Point, Smoothness};
use safetensors::SafeTensors;
use serde_json::Value;

use crate::fixture::{bytes, floats, json, number};
use crate::{Check, Line, line};

const RELATIVE: f64 = 1e-10;

pub(super) fn lines(folder: &FilePath) -> Vec<Line> {
    let result = json(&folder.join("expected.json")).and_then(|expected| {
        let raw = bytes(&folder.join("quadratics.safetensors"))?;
        let file = SafeTensors::deserialize(&raw).map_err(|e| e.to_string())?;
        let mut check = Check::new();
        for (k, case) in expected.as_array().into_iter().flatten().enumerate() {
            problem(&mut check, &file, k, case)?;
        }
        Ok(check)
    });
    vec![line("bound/expected.json", result)]
}

/// (θ − c)ᵀA(θ − c)/2 + offset
struct Quadratic {
    hessian: Vec<f64>,
    centre: Vec<f64>,
    offset: f64,
}

impl Quadratic {
    fn read(file: &SafeTensors<'_>, k: usize, side: &str, case: &Value) -> Result<Self, String> {
        Ok(Self {
            hessian: floats(file, &format!("{k}.hessian_{side}"))?.1,
            centre: floats(file, &format!("{k}.centre_{side}"))?.1,
            offset: number(case, &format!("offset_{side}"))?,
        })
    }

    fn at(&self, theta: &[f64]) -> (f64, Vec<f64>) {
        let from: Vec<f64> = theta.iter().zip(&self.centre).map(|(t, c)| t - c).collect();
        let row = |row: &[f64]| row.iter().zip(&from).map(|(a, d)| a * d).sum::<f64>();
        let gradient: Vec<f64> = self.hessian.chunks_exact(from.len()).map(row).collect();
        (gradient.iter().zip(&from).map(|(g, d)| g * d).sum::<f64>() / 2.0 + self.offset, gradient)
    }
}

fn problem(check: &mut Check, file: &SafeTensors<'_>, k: usize, case: &Value) -> Result<(), String> {
    let (p, t) = (Quadratic::read(file, k, "P", case)?, Quadratic::read(file, k, "T", case)?);
    let (shape, trajectory) = floats(file, &format!("{k}.trajectory"))?;
    let &[points, dimension] = shape.as_slice() else { return Err(format!("{k}.trajectory has shape {shape:?}")) };
    let rates = vec![number(case, "eta")?; points - 1];
    let path = Path::walk(&rates, |i| {
        let theta = trajectory[i * dimension..(i + 1) * dimension].to_vec();
        let ((loss_p, grad_p), (loss_t, grad_t)) = (p.at(&theta), t.at(&theta));
        Ok::<_, PathError>(Point { theta, loss_p, grad_p, loss_t, grad_t })
    })
    .map_err(|e| e.to_string())?;
    let smoothness = Smoothness { l_p: number(case, "L_P")?, l_t: number(case, "L_T")? };
    let bounds = path.bounds(smoothness, number(case, "J_T_star")?);
    let inner = path.segments.iter().map(|s| s.dot).sum::<f64>();
    let energy = path.segments.iter().map(|s| s.grad_t_square).sum::<f64>();
    let last = path.losses_p.len() - 1;
    for (found, field) in [
        (bounds.forgetting, "delta_P"),
        (path.losses_p[0], "J_P_start"),
        (path.losses_p[last], "J_P_end"),
        (path.losses_t[0], "J_T_start"),
        (path.losses_t[last], "J_T_end"),
        (inner, "sum_inner_products"),
        (energy, "sum_sq_grad_T"),
        (bounds.alignment, "A_alignment_term"),
        (bounds.energy, "B_energy_term_eq3"),
        (bounds.effort, "B_effort_term_eq5"),
        (bounds.effort_to_end, "B_effort_term_to_theta_K"),
        (bounds.eq3(), "bound_eq3"),
        (bounds.eq4(), "bound_with_theta_K"),
        (bounds.eq5(), "bound_eq5"),
        (bounds.rate_times_l_t, "eta_times_L_T"),
        // Plain gradient descent: the steps that were taken are the paper's.
        (bounds.actual(), "bound_eq3"),
    ] {
        let expected = number(case, field)?;
        check.near(found, expected, RELATIVE * expected.abs().max(1e-3), &format!("{field} of problem {k}"));
    }
    check.exact(bounds.rate_is_small(), "eta is at most 1/L_T")?;
    check.exact(bounds.forgetting <= bounds.eq3() && bounds.eq3() <= bounds.eq5(), "the bounds hold in order")
}
