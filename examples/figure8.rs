//! Figure 8: the training loss in fine-tuning on Pycode, step by step, of a midtrained model and of the control; bands over
//! seeds. Uses the models of table2.
//!
//!     cargo run --release --example figure8

use midtrain::protocol::{C4, PYCODE, Protocol, STARCODER, Size};
use midtrain::study::Figure8;

midtrain::allocator!();

/// The paper shows 410M.
const PROTOCOL: Protocol<'_> =
    Protocol { sizes: &[Size::L], arms: &[C4, STARCODER], sft: &[PYCODE], ..Protocol::PAPER };

fn main() -> std::process::ExitCode {
    midtrain::run("figure8", &PROTOCOL, Figure8::of(STARCODER, PYCODE))
}
