//! Table 2: does midtraining help fine-tuning on the domain it resembles, and what does it cost in general loss?
//!
//! The paper's protocol (Sections 3 and 4): one general pretraining run on C4; five arms that, from a step on, replace
//! a share of it by specialised data; each fine-tuned on four sets. Learning rates of fine-tuning are swept on the C4
//! arm's checkpoint (Appendix C).
//!
//!     cargo run --release --example table2                        # minutes on 2 cores, on a generated corpus
//!     cargo run --release --example table2 -- --preset mini --data DIR

use midtrain::study::{Mix, Protocol, Table2};

const PROTOCOL: Protocol<'_> = Protocol {
    // What is mixed in, how much of each batch, from which step on.
    arms: &[
        ("C4", None),
        ("Starcoder (20%)", Some(Mix { role: "starcoder", weight: "0.20", start: 6_000 })),
        ("Math (12%)", Some(Mix { role: "math", weight: "0.12", start: 20_000 })),
        ("FLAN (5%)", Some(Mix { role: "flan", weight: "0.05", start: 40_000 })),
        ("KnowledgeQA (20%)", Some(Mix { role: "knowledgeqa", weight: "0.20", start: 40_000 })),
        ("DCLM (20%)", Some(Mix { role: "dclm", weight: "0.20", start: 40_000 })),
    ],
    // Fine-tuning sets, and whether their prompts are left out of the loss (Table 5).
    sft: &[
        ("Pycode", "sft/pycode", false),
        ("GSM8K", "sft/gsm8k", true),
        ("LIMA", "sft/lima", false),
        ("SciQ", "sft/sciq", true),
    ],
    ..Protocol::PAPER
};

pub(crate) fn main() -> std::process::ExitCode {
    midtrain::run("table2", &PROTOCOL, Table2)
}
