//! Rates of the products of a Pythia-70m step of 512 tokens, beside the `gemm` crate's.
//!
//!     cargo run --release -p packed-gemm --example shapes

use std::time::Instant;

use packed_gemm::{Mat, Start, product};

/// Times of each.
const REPEATS: usize = 7;

/// A factor of rows × cols, stored so or the other way round.
struct Factor {
    data: Vec<f32>,
    rows: usize,
    cols: usize,
    transposed: bool,
}

impl Factor {
    fn new(rows: usize, cols: usize, transposed: bool) -> Self {
        let data = (0..rows * cols).map(|i| ((i * 37 % 101) as f32) / 50.0 - 1.0).collect();
        Self { data, rows, cols, transposed }
    }

    fn mat(&self) -> Mat<'_> {
        let Self { data, rows, cols, transposed } = self;
        if *transposed { Mat::new(data, *cols, *rows).t() } else { Mat::new(data, *rows, *cols) }
    }

    /// From column to column, from row to row.
    fn strides(&self) -> (isize, isize) {
        if self.transposed { (self.rows as isize, 1) } else { (1, self.cols as isize) }
    }
}

fn rate(name: &str, (m, n, k): (usize, usize, usize), a_transposed: bool, b_transposed: bool) {
    let (a, b) = (Factor::new(m, k, a_transposed), Factor::new(k, n, b_transposed));
    let ((acs, ars), (bcs, brs)) = (a.strides(), b.strides());
    let mut out = vec![0f32; m * n];
    let (mut ours, mut theirs) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..REPEATS {
        let begun = Instant::now();
        product(&mut out, n, a.mat(), b.mat(), Start::Zero);
        ours = ours.min(begun.elapsed().as_secs_f64());
        let begun = Instant::now();
        let (to, a, b) = (out.as_mut_ptr(), a.data.as_ptr(), b.data.as_ptr());
        let threads = gemm::Parallelism::Rayon(0);
        // SAFETY: the output and both factors hold m × n, m × k and k × n values with these strides.
        unsafe {
            gemm::gemm(
                m, n, k, to, 1, n as isize, false, a, acs, ars, b, bcs, brs, 1.0, 1.0, false, false, false, threads,
            );
        }
        theirs = theirs.min(begun.elapsed().as_secs_f64());
    }
    let gflop = 2.0 * (m * n * k) as f64 / 1e9;
    println!("| {name} | {m} | {n} | {k} | {:.0} | {:.0} | {:.2} |", gflop / ours, gflop / theirs, theirs / ours);
}

fn main() {
    println!("| product | m | n | k | packed-gemm, GFLOP/s | gemm, GFLOP/s | ratio |\n|---|---|---|---|---|---|---|");
    let tokens = 512;
    for (name, i, o) in [("qkv", 512, 1536), ("dense", 512, 512), ("widen", 512, 2048), ("narrow", 2048, 512)] {
        rate(&format!("{name}, forward"), (tokens, o, i), false, true);
        rate(&format!("{name}, gradient of x"), (tokens, i, o), false, false);
        rate(&format!("{name}, gradient of w"), (o, i, tokens), true, false);
    }
    rate("head, forward", (256, 50_304, 512), false, true);
    rate("head, gradient of x", (256, 512, 50_304), false, false);
    rate("head, gradient of w", (50_304, 512, 256), true, false);
    rate("CKA", (512, 512, 2048), true, false);
    rate("large", (2048, 2048, 2048), false, false);
    rate("attention scores", (64, 512, 64), false, true);
}
