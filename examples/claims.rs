//! The paper's claims: each of its five findings, and what belongs to them, with a contrast and a margin that were fixed
//! beforehand, judged by this study's results and by the paper's own printed tables, which are checked line by line.
//!
//! Uses the models of table8, table3, figure4 and figures 6 and 9 to 13. With one pretraining seed no verdict is given:
//! --pretrain-seeds 5 repeats the runs.
//!
//!     cargo run --release --example claims
//!     cargo run --release --example claims -- --preset paper     # the printed tables alone: nothing is trained

use midtrain::protocol::{EVERY_ARM, PROBES, Protocol, SFT, Size};
use midtrain::study::Claims;

midtrain::allocator!();

const PROTOCOL: Protocol<'_> =
    Protocol { sizes: &[Size::S, Size::M, Size::L], arms: EVERY_ARM, sft: SFT, probes: PROBES, ..Protocol::PAPER };

fn main() -> std::process::ExitCode {
    midtrain::run("claims", &PROTOCOL, Claims::PAPER)
}
