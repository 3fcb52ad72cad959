//! Table 5: the fine-tuning sets — how many examples, whether their prompts are left out of the loss, how long they are,
//! how many are cut, and how many held-out ones share text with what is trained on. Nothing is trained.
//!
//!     cargo run --release --example table5
//!     cargo run --release --example table5 -- --preset mini --data DIR
//!     cargo run --release --example table5 -- --preset paper               # what the paper states, and what is odd

use midtrain::study::{Mix, Protocol, Table5};

const PROTOCOL: Protocol<'_> = Protocol {
    // The mixes whose text the held-out examples are looked for in.
    arms: &[
        ("C4", None),
        ("Starcoder (20%)", Some(Mix { role: "starcoder", weight: "0.20", start: 6_000 })),
        ("Math (12%)", Some(Mix { role: "math", weight: "0.12", start: 20_000 })),
        ("FLAN (5%)", Some(Mix { role: "flan", weight: "0.05", start: 40_000 })),
        ("KnowledgeQA (20%)", Some(Mix { role: "knowledgeqa", weight: "0.20", start: 40_000 })),
        ("DCLM (20%)", Some(Mix { role: "dclm", weight: "0.20", start: 40_000 })),
    ],
    // Appendix C's text masks GSM8K's prompts alone; Table 5 masks SciQ's too, as here.
    sft: &[
        ("Pycode", "sft/pycode", false),
        ("GSM8K", "sft/gsm8k", true),
        ("LIMA", "sft/lima", false),
        ("SciQ", "sft/sciq", true),
    ],
    ..Protocol::PAPER
};

fn main() -> std::process::ExitCode {
    midtrain::run("table5", &PROTOCOL, Table5)
}
