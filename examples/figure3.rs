//! Figure 3: do mixes that are closer to a fine-tuning set than C4 gain more? Proximity advantage against relative
//! improvement, with the correlation, its p-value, and an interval that takes all pairs for independent beside one that
//! does not. Uses the models of table2.
//!
//!     cargo run --release --example figure3

use midtrain::study::{Figure3, Mix, Protocol};

const PROTOCOL: Protocol<'_> = Protocol {
    arms: &[
        ("C4", None),
        ("Starcoder (20%)", Some(Mix { role: "starcoder", weight: "0.20", start: 6_000 })),
        ("Math (12%)", Some(Mix { role: "math", weight: "0.12", start: 20_000 })),
        ("FLAN (5%)", Some(Mix { role: "flan", weight: "0.05", start: 40_000 })),
        ("KnowledgeQA (20%)", Some(Mix { role: "knowledgeqa", weight: "0.20", start: 40_000 })),
        ("DCLM (20%)", Some(Mix { role: "dclm", weight: "0.20", start: 40_000 })),
    ],
    sft: &[
        ("Pycode", "sft/pycode", false),
        ("GSM8K", "sft/gsm8k", true),
        ("LIMA", "sft/lima", false),
        ("SciQ", "sft/sciq", true),
    ],
    ..Protocol::PAPER
};

fn main() -> std::process::ExitCode {
    midtrain::run("figure3", &PROTOCOL, Figure3)
}
