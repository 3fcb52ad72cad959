//! Figure 4: when to begin, and how much to mix in. Code from five starts on at five weights, fine-tuned on Pycode.
//!
//! Cells of this grid differ in how much code a model sees, too. With --iso-exposure arms are added that see the same sequences
//! whenever they begin; with --curve constant the learning rate does not fall, so that a later start has no lower rate.
//!
//!     cargo run --release --example figure4
//!     cargo run --release --example figure4 -- --iso-exposure
//!     cargo run --release --example figure4 -- --iso-exposure --curve constant

use midtrain::protocol::{GRID, PYCODE, Protocol, Size};
use midtrain::study::Figure4;

midtrain::allocator!();

/// The control and 12.6 B, 42 B, 63 B, 84 B and 105 B tokens × 10, 20, 30, 50 and 80 %.
const PROTOCOL: Protocol<'_> = Protocol { sizes: &[Size::S], arms: GRID, sft: &[PYCODE], ..Protocol::PAPER };

fn main() -> std::process::ExitCode {
    midtrain::run("figure4", &PROTOCOL, Figure4::PAPER)
}
