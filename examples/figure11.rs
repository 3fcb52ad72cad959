//! Figure 11: how representations of the 70M model (or its stand-in at a preset's size) move in fine-tuning on code, with and
//! without midtraining on it: CKA between all layers of four states, probed with held-out general text (C4).
//!
//!     cargo run --release --example figure11
//!     cargo run --release --example figure11 -- --preset mini --data DIR

use midtrain::protocol::{C4, GENERAL, PROBES, PYCODE, Protocol, STARCODER, Size};
use midtrain::study::Representations;

midtrain::allocator!();

const PROTOCOL: Protocol<'_> =
    Protocol { sizes: &[Size::S], arms: &[C4, STARCODER], sft: &[PYCODE], probes: PROBES, ..Protocol::PAPER };

fn main() -> std::process::ExitCode {
    midtrain::run("figure11", &PROTOCOL, Representations::of(STARCODER, PYCODE, GENERAL))
}
