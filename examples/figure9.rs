//! Figure 9: how representations of the 160M model (or its stand-in at a preset's size) move in fine-tuning on code, with and
//! without midtraining on it: CKA between all layers of four states, probed with code problems (APPS).
//!
//!     cargo run --release --example figure9
//!     cargo run --release --example figure9 -- --preset mini --data DIR

use midtrain::protocol::{APPS, C4, PROBES, PYCODE, Protocol, STARCODER, Size};
use midtrain::study::Representations;

midtrain::allocator!();

const PROTOCOL: Protocol<'_> =
    Protocol { sizes: &[Size::M], arms: &[C4, STARCODER], sft: &[PYCODE], probes: PROBES, ..Protocol::PAPER };

fn main() -> std::process::ExitCode {
    midtrain::run("figure9", &PROTOCOL, Representations::of(STARCODER, PYCODE, APPS))
}
