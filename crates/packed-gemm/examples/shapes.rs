//! Rates of the products of a Pythia-70m step, beside the `gemm` crate's.
use std::time::Instant;

use packed_gemm::{Mat, Start, product};

fn rate(name: &str, (m, n, k): (usize, usize, usize), a_t: bool, b_t: bool) {
    let values = |n: usize| (0..n).map(|i| ((i * 37 % 101) as f32) / 50.0 - 1.0).collect::<Vec<f32>>();
    let (a, b) = (values(m * k), values(k * n));
    let a = if a_t { Mat::new(&a, k, m).t() } else { Mat::new(&a, m, k) };
    let b = if b_t { Mat::new(&b, n, k).t() } else { Mat::new(&b, k, n) };
    let mut out = vec![0f32; m * n];
    let mut best = [f64::INFINITY; 2];
    for _ in 0..7 {
        let t = Instant::now();
        product(&mut out, n, a, b, Start::Zero);
        best[0] = best[0].min(t.elapsed().as_secs_f64());
        let (ars, acs) = if a_t { (1, m as isize) } else { (k as isize, 1) };
        let (brs, bcs) = if b_t { (1, k as isize) } else { (n as isize, 1) };
        let (pa, pb) = (values_ptr(&a), values_ptr(&b));
        let t = Instant::now();
        // SAFETY: the matrices are those above.
        unsafe {
            gemm::gemm(
                m,
                n,
                k,
                out.as_mut_ptr(),
                1,
                n as isize,
                false,
                pa,
                acs,
                ars,
                pb,
                bcs,
                brs,
                1.0,
                1.0,
                false,
                false,
                false,
                gemm::Parallelism::Rayon(0),
            );
        }
        best[1] = best[1].min(t.elapsed().as_secs_f64());
    }
    let flop = 2.0 * (m * n * k) as f64;
    println!(
        "{name:<24} {m:>6} {n:>6} {k:>6}  ours {:7.1} GFLOP/s  gemm {:7.1}  ratio {:.3}",
        flop / best[0] / 1e9,
        flop / best[1] / 1e9,
        best[1] / best[0]
    );
}

fn values_ptr(m: &Mat<'_>) -> *const f32 {
    m.as_ptr()
}

fn main() {
    for (name, i, o) in [("qkv", 512, 1536), ("dense", 512, 512), ("widen", 512, 2048), ("narrow", 2048, 512)] {
        let n = 512;
        rate(&format!("{name} forward"), (n, o, i), false, true);
        rate(&format!("{name} gx"), (n, i, o), false, false);
        rate(&format!("{name} gw"), (o, i, n), true, false);
    }
    rate("head forward", (256, 50304, 512), false, true);
    rate("head gx", (256, 512, 50304), false, false);
    rate("head gw", (50304, 512, 256), true, false);
    rate("cka", (512, 512, 2048), true, false);
    rate("large", (2048, 2048, 2048), false, false);
    rate("attention scores", (64, 512, 64), false, true);
}
