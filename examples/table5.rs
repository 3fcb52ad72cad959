//! Table 5: the fine-tuning sets — how many examples, whether their prompts are left out of the loss, how long they are,
//! how many are cut, and how many held-out ones share text with what is trained on. Nothing is trained.
//!
//!     cargo run --release --example table5
//!     cargo run --release --example table5 -- --preset mini --data DIR
//!     cargo run --release --example table5 -- --preset paper               # what the paper states, and what is odd

use midtrain::protocol::{ARMS, Protocol, SFT};
use midtrain::study::Table5;

midtrain::allocator!();

/// The arms are those whose text the held-out examples are looked for in.
const PROTOCOL: Protocol<'_> = Protocol { arms: ARMS, sft: SFT, ..Protocol::PAPER };

fn main() -> std::process::ExitCode {
    midtrain::run("table5", &PROTOCOL, Table5)
}
