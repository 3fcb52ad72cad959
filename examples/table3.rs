//! Table 3: is it better to mix code or mathematics into general text, or to go on with nothing else at the end of
//! pretraining? Losses after fine-tuning of three arms at two sizes, and the differences with intervals.
//!
//!     cargo run --release --example table3

use midtrain::protocol::{C4, CONTINUED_MATH, CONTINUED_STARCODER, GSM8K, MATH, PYCODE, Protocol, STARCODER, Size};
use midtrain::study::Table3;

midtrain::allocator!();

/// Continued pretraining begins at 83 B tokens (code) and at 105 B (mathematics, whose 12 B tokens are read nearly twice).
const PROTOCOL: Protocol<'_> = Protocol {
    sizes: &[Size::S, Size::M],
    arms: &[C4, STARCODER, MATH, CONTINUED_STARCODER, CONTINUED_MATH],
    sft: &[PYCODE, GSM8K],
    ..Protocol::PAPER
};

fn main() -> std::process::ExitCode {
    midtrain::run("table3", &PROTOCOL, Table3::PAPER)
}
