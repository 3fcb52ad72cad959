//! Table 2: does midtraining help fine-tuning on the domain it resembles, and what does it cost in general loss?
//!
//! The paper's protocol (Sections 3 and 4): one general pretraining run on C4; five arms that, from a step on, replace
//! a share of it by specialised data; each fine-tuned on four sets. Learning rates of fine-tuning are swept on the C4
//! arm's checkpoint (Appendix C).
//!
//!     cargo run --release --example table2                        # minutes on 2 cores, on a generated corpus
//!     cargo run --release --example table2 -- --preset mini --data DIR

use midtrain::protocol::{ARMS, Protocol, SFT};
use midtrain::study::Table2;

midtrain::allocator!();

/// C4 alone; then from step 6 000 on 20 % Starcoder, from 20 000 on 12 % Math, from 40 000 on 5 % FLAN, 20 % KnowledgeQA or
/// 20 % DCLM. Fine-tuned on Pycode, GSM8K, LIMA and SciQ.
const PROTOCOL: Protocol<'_> = Protocol { arms: ARMS, sft: SFT, ..Protocol::PAPER };

fn main() -> std::process::ExitCode {
    midtrain::run("table2", &PROTOCOL, Table2)
}
