//! Reductions over a cube: a row kernel gives each row a cube of [`THREADS`] units, which stride over its columns.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;

/// Units of a cube in row kernels; a power of two.
pub(super) const THREADS: u32 = 256;

/// One cube a row.
pub(super) fn rows(count: usize) -> (CubeCount, CubeDim) {
    let x = count.clamp(1, 1 << 15) as u32;
    (CubeCount::Static(x, (count as u32).div_ceil(x), 1), CubeDim::new_1d(THREADS))
}

/// Room for one value a unit.
#[cube]
pub(super) fn shared_values() -> SharedMemory<f32> {
    SharedMemory::<f32>::new(comptime!(THREADS as usize))
}

/// The sum over the cube's units, the same bits in every run; all units get it.
#[cube]
pub(super) fn sum_of_cube(value: f32, shared: &mut SharedMemory<f32>) -> f32 {
    let unit = UNIT_POS_X as usize;
    sync_cube();
    shared[unit] = value;
    sync_cube();
    let mut width = CUBE_DIM_X as usize / 2;
    while width > 0 {
        if unit < width {
            let other = shared[unit + width];
            shared[unit] += other;
        }
        sync_cube();
        width /= 2;
    }
    shared[0]
}

/// The greatest value of the cube's units; all units get it.
#[cube]
pub(super) fn max_of_cube(value: f32, shared: &mut SharedMemory<f32>) -> f32 {
    let unit = UNIT_POS_X as usize;
    sync_cube();
    shared[unit] = value;
    sync_cube();
    let mut width = CUBE_DIM_X as usize / 2;
    while width > 0 {
        if unit < width {
            let other = shared[unit + width];
            if other > shared[unit] {
                shared[unit] = other;
            }
        }
        sync_cube();
        width /= 2;
    }
    shared[0]
}
