//! Figure 7: similarity of all mixes and fine-tuning sets with each other (Appendix D). Nothing is trained.
//!
//!     cargo run --release --example figure7
//!     cargo run --release --example figure7 -- --preset mini --data DIR --tokenizer 20B_tokenizer.json

use midtrain::protocol::{ARMS, Protocol, SFT};
use midtrain::study::Similarities;

midtrain::allocator!();

const PROTOCOL: Protocol<'_> = Protocol { arms: ARMS, sft: SFT, ..Protocol::PAPER };

fn main() -> std::process::ExitCode {
    midtrain::run("figure7", &PROTOCOL, Similarities::Figure7)
}
