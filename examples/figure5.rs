//! Figure 5: checkpoints along two runs, with and without 20 % code, each fine-tuned on Pycode: from when on is the loss on the
//! set lower, and from when on the loss on general text?
//!
//!     cargo run --release --example figure5

use midtrain::protocol::{C4, PYCODE, Protocol, STARCODER};
use midtrain::study::Figure5;

midtrain::allocator!();

const PROTOCOL: Protocol<'_> = Protocol { arms: &[C4, STARCODER], sft: &[PYCODE], ..Protocol::PAPER };

fn main() -> std::process::ExitCode {
    midtrain::run("figure5", &PROTOCOL, Figure5::of(STARCODER, PYCODE))
}
