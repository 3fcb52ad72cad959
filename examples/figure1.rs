//! Figure 1, measured: the plane through the control, a midtrained model and what that becomes in fine-tuning. Contours of the
//! loss on general text, of the loss on the set, and of the cosine of their gradients, with both ways of fine-tuning.
//!
//!     cargo run --release --example figure1

use midtrain::protocol::{C4, PYCODE, Protocol, STARCODER};
use midtrain::study::Figure1;

midtrain::allocator!();

const PROTOCOL: Protocol<'_> = Protocol { arms: &[C4, STARCODER], sft: &[PYCODE], ..Protocol::PAPER };

fn main() -> std::process::ExitCode {
    midtrain::run("figure1", &PROTOCOL, Figure1::of(STARCODER, PYCODE))
}
