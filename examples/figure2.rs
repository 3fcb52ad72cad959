//! Figure 2: how close each pretraining and midtraining mix is to each fine-tuning set, and the proximity advantage of each
//! mix (Eq. 6). Nothing is trained.
//!
//!     cargo run --release --example figure2
//!     cargo run --release --example figure2 -- --preset mini --data DIR --tokenizer 20B_tokenizer.json

use midtrain::study::{Mix, Protocol, Similarities};

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
    midtrain::run("figure2", &PROTOCOL, Similarities::Figure2)
}
