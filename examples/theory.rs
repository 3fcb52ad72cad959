//! The theory of forgetting (Section 2, Appendix A) on a study's own fine-tuning paths: gradient alignment, energy and
//! effort (Eq. 3 to 5) with gradients taken at every step, what midtraining changed at initialisation (Eq. 14 and 15), and
//! how far it went (Eq. 17 to 19).
//!
//!     cargo run --release --example theory

use midtrain::protocol::{C4, GSM8K, MATH, PYCODE, Protocol, STARCODER};
use midtrain::study::Theory;

midtrain::allocator!();

const PROTOCOL: Protocol<'_> = Protocol { arms: &[C4, STARCODER, MATH], sft: &[PYCODE, GSM8K], ..Protocol::PAPER };

fn main() -> std::process::ExitCode {
    midtrain::run("theory", &PROTOCOL, Theory)
}
