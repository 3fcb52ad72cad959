//! How the kernels of `attention.cu` are launched. (A file of its own without CUDA's crates: the tests launch the same grids
//! on an emulator, and import what this file takes from the crate's root.)

use crate::flash_attention_takes;

/// Threads of a block, in every kernel.
pub(crate) const THREADS: u32 = 128;

/// Positions that the kernels take of the other side at a time, and of which `start_bounds` keeps bounds.
pub(crate) const STEP: usize = 64;

/// Sizes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sizes {
    pub(crate) batch: usize,
    pub(crate) time: usize,
    pub(crate) heads: usize,
    /// Features of a head.
    pub(crate) head: usize,
    /// Features of a head that rotate.
    pub(crate) rotary: usize,
}

impl Sizes {
    /// Whether the kernels are written for such sizes.
    pub(crate) fn fit(self) -> bool {
        let Self { batch, time, heads, head, rotary } = self;
        let least = 1..=usize::from(u16::MAX);
        flash_attention_takes(head, rotary)
            && time > 0
            // Grids have limits, and places within a sequence are 32 bits.
            && least.contains(&heads)
            && least.contains(&batch)
            && within(&[batch, time, heads, head / 4])
            && within(&[time, heads, 3 * head])
    }
}

/// Whether a product stays below 2³².
fn within(factors: &[usize]) -> bool {
    factors.iter().try_fold(1usize, |product, f| product.checked_mul(*f)).is_some_and(|product| product < 1 << 32)
}

/// A kernel of attention.cu.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Entry {
    RotateQk,
    StartBounds,
    Forward,
    Delta,
    BackwardKv,
    BackwardQ,
}

impl Entry {
    /// In the order of use.
    #[cfg_attr(not(test), allow(dead_code, reason = "for tests"))]
    pub(crate) const ALL: [Self; 6] =
        [Self::RotateQk, Self::StartBounds, Self::Forward, Self::Delta, Self::BackwardKv, Self::BackwardQ];

    /// (Not `name`: through `&self` the method of CubeCL's trait would win.)
    pub(crate) fn entry_point(self) -> &'static str {
        match self {
            Self::RotateQk => "rotate_qk",
            Self::StartBounds => "start_bounds",
            Self::Forward => "attention_forward",
            Self::Delta => "attention_delta",
            Self::BackwardKv => "attention_backward_kv",
            Self::BackwardQ => "attention_backward_q",
        }
    }

    /// Bytes of dynamic shared memory.
    pub(crate) fn shared_bytes(self, head: usize) -> usize {
        let row = (2 * head).next_multiple_of(128);
        let (own, other) = (block(head) * row, STEP * row);
        match self {
            Self::RotateQk | Self::StartBounds | Self::Delta => 0,
            // q; two stages of k and v.
            Self::Forward => own + 4 * other,
            // k and v; two stages of q and gout, and of each query's lse, delta and start.
            Self::BackwardKv => 2 * own + 4 * other + 2 * 3 * STEP * 4,
            // q and gout; two stages of k and v.
            Self::BackwardQ => 2 * own + 4 * other,
        }
    }

    /// Blocks in each direction.
    pub(crate) fn grid(self, s: Sizes) -> [u32; 3] {
        let up = |n: usize, by: usize| n.div_ceil(by) as u32;
        let (b, h) = (s.batch as u32, s.heads as u32);
        let lines = s.batch * s.time * s.heads;
        let chunks = s.head / 8;
        match self {
            Self::RotateQk => [up(lines * 2 * chunks, 128), 1, 1],
            Self::StartBounds => [up(s.time.div_ceil(STEP), 4), b, 1],
            Self::Delta => [up(lines, 128 / chunks.next_power_of_two()), 1, 1],
            Self::Forward | Self::BackwardKv | Self::BackwardQ => [up(s.time, block(s.head)), h, b],
        }
    }
}

/// Rows that a block owns: its warps are two tiles of the tensor cores high, or one where heads are wide.
fn block(head: usize) -> usize {
    if head <= 64 { 128 } else { 64 }
}
