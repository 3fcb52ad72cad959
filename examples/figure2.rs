//! Figure 2: how close each pretraining and midtraining mix is to each fine-tuning set, and the proximity advantage of each
//! mix (Eq. 6). Nothing is trained.
//!
//!     cargo run --release --example figure2
//!     cargo run --release --example figure2 -- --preset mini --data DIR --tokenizer 20B_tokenizer.json

use midtrain::protocol::{ARMS, Protocol, SFT};
use midtrain::study::Similarities;

midtrain::allocator!();

const PROTOCOL: Protocol<'_> = Protocol { arms: ARMS, sft: SFT, ..Protocol::PAPER };

fn main() -> std::process::ExitCode {
    midtrain::run("figure2", &PROTOCOL, Similarities::Figure2)
}
