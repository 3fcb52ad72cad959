//! Figure 13: how representations of the 410M model (or its stand-in at a preset's size) move in fine-tuning on code, with and
//! without midtraining on it: CKA between all layers of four states, probed with held-out general text (C4).
//!
//!     cargo run --release --example figure13
//!     cargo run --release --example figure13 -- --preset mini --data DIR

use midtrain::protocol::{C4, GENERAL, PROBES, PYCODE, Protocol, STARCODER, Size};
use midtrain::study::Representations;

midtrain::allocator!();

const PROTOCOL: Protocol<'_> =
    Protocol { sizes: &[Size::L], arms: &[C4, STARCODER], sft: &[PYCODE], probes: PROBES, ..Protocol::PAPER };

fn main() -> std::process::ExitCode {
    midtrain::run("figure13", &PROTOCOL, Representations::of(STARCODER, PYCODE, GENERAL))
}
