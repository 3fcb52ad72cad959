//! What multiplies: this machine's cores, here; a device, in `device.rs`.

use rayon::prelude::*;

use crate::Real;
use crate::real::Rows;

/// Computes XᵀY of chunks of examples for pairs of layers and adds them up in f64.
pub trait Products<T>: Send + Sync + std::fmt::Debug {
    /// For each pair (a, b) adds XₐᵀX_b to its sum `[width a, width b]`. Where a = b the entries above the diagonal
    /// may be left alone.
    ///
    /// # Shapes
    /// layers: `[rows, width]` each, row-major
    fn add(&self, layers: &[(&[T], usize)], pairs: &[(usize, usize)], sums: &mut [&mut [f64]]);
}

/// Products on this machine's cores.
#[derive(Debug, Clone, Copy, Default)]
pub struct Host;

impl<T: Real> Products<T> for Host {
    fn add(&self, layers: &[(&[T], usize)], pairs: &[(usize, usize)], sums: &mut [&mut [f64]]) {
        let layers: Vec<_> = layers.iter().map(|(values, width)| Rows::new(values, *width)).collect();
        let factors = T::pack(&layers, pairs);
        let tasks = pairs.iter().zip(sums).flat_map(|((a, b), sum)| {
            let block = if a == b { OWN_BLOCK } else { BLOCK };
            let blocks = sum.chunks_mut(block * layers[*b].width).enumerate();
            blocks.map(move |(i, sum)| (*a, *b, i * block, sum)).collect::<Vec<_>>()
        });
        let tasks: Vec<_> = tasks.collect();
        // One at a time: what is left at the end is small.
        tasks.into_par_iter().with_max_len(1).for_each_init(Vec::new, |product: &mut Vec<T>, (a, b, from, sum)| {
            let width = layers[b].width;
            let rows = sum.len() / width;
            // Of a symmetric product the blocks up to the diagonal.
            let columns = if a == b { from + rows } else { width };
            product.resize(rows * columns, T::default());
            T::transposed_product(product, &factors, (a, b), (from, rows), columns);
            for (sum, product) in sum.chunks_exact_mut(width).zip(product.chunks_exact(columns)) {
                T::add_to(&mut sum[..columns], product);
            }
        });
    }
}

/// Rows of a product that are one task: large enough that its panels are used often, small enough for cores to share the
/// work. A multiple of a packed factor's panel.
const BLOCK: usize = 43 * packed_gemm::Left::PANEL;
/// The same of a product of a layer with itself, of which only what lies up to the diagonal is computed: fewer rows leave
/// more out.
const OWN_BLOCK: usize = 11 * packed_gemm::Left::PANEL;
