//! Table 7: the learning rate that was chosen for each fine-tuning set at each size; one at the edge of what was tried is
//! marked.
//!
//!     cargo run --release --example table7

use midtrain::protocol::{C4, Protocol, SFT, Size};
use midtrain::study::Table7;

midtrain::allocator!();

const PROTOCOL: Protocol<'_> =
    Protocol { sizes: &[Size::S, Size::M, Size::L], arms: &[C4], sft: SFT, ..Protocol::PAPER };

fn main() -> std::process::ExitCode {
    midtrain::run("table7", &PROTOCOL, Table7)
}
