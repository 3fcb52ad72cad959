//! Figure 3: do mixes that are closer to a fine-tuning set than C4 gain more? Proximity advantage against relative improvement
//! at three sizes, by both ways to measure proximity, with the correlation and a test that exchanges whole mixes. Uses the
//! models of table8.
//!
//!     cargo run --release --example figure3

use midtrain::protocol::{ARMS, Protocol, SFT, Size};
use midtrain::study::Figure3;

midtrain::allocator!();

const PROTOCOL: Protocol<'_> =
    Protocol { sizes: &[Size::S, Size::M, Size::L], arms: ARMS, sft: SFT, ..Protocol::PAPER };

fn main() -> std::process::ExitCode {
    midtrain::run("figure3", &PROTOCOL, Figure3)
}
