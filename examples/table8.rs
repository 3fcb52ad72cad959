//! Table 8: the losses of table2 at three sizes: six arms, four fine-tuning sets. Uses the models of table2 and trains the
//! other sizes'.
//!
//!     cargo run --release --example table8

use midtrain::protocol::{ARMS, Protocol, SFT, Size};
use midtrain::study::Table8;

midtrain::allocator!();

const PROTOCOL: Protocol<'_> =
    Protocol { sizes: &[Size::S, Size::M, Size::L], arms: ARMS, sft: SFT, ..Protocol::PAPER };

fn main() -> std::process::ExitCode {
    midtrain::run("table8", &PROTOCOL, Table8)
}
