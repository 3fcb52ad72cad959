//! Table 6: every learning rate that fine-tuning was tried with on the checkpoint before midtraining, with the loss on the
//! validation split.
//!
//!     cargo run --release --example table6

use midtrain::protocol::{C4, Protocol, SFT, Size};
use midtrain::study::Table6;

midtrain::allocator!();

const PROTOCOL: Protocol<'_> =
    Protocol { sizes: &[Size::S, Size::M, Size::L], arms: &[C4], sft: SFT, ..Protocol::PAPER };

fn main() -> std::process::ExitCode {
    midtrain::run("table6", &PROTOCOL, Table6)
}
