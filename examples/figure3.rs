//! Figure 3: do mixes that are closer to a fine-tuning set than C4 gain more? Proximity advantage against relative
//! improvement, with the correlation, its p-value, and an interval that takes all pairs for independent beside one that
//! does not. Uses the models of table2.
//!
//!     cargo run --release --example figure3

use midtrain::protocol::{ARMS, Protocol, SFT};
use midtrain::study::Figure3;

midtrain::allocator!();

const PROTOCOL: Protocol<'_> = Protocol { arms: ARMS, sft: SFT, ..Protocol::PAPER };

fn main() -> std::process::ExitCode {
    midtrain::run("figure3", &PROTOCOL, Figure3)
}
