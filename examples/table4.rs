//! Table 4: the hyperparameters of this preset at every size, as they were resolved, beside the paper's; what differs is
//! marked. Nothing is trained.
//!
//!     cargo run --release --example table4
//!     cargo run --release --example table4 -- --preset paper

use midtrain::protocol::{ARMS, Protocol, SFT, Size};
use midtrain::study::Table4;

midtrain::allocator!();

const PROTOCOL: Protocol<'_> =
    Protocol { sizes: &[Size::S, Size::M, Size::L], arms: ARMS, sft: SFT, ..Protocol::PAPER };

fn main() -> std::process::ExitCode {
    midtrain::run("table4", &PROTOCOL, Table4)
}
