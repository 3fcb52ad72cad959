//! Table 1: the midtraining mixes — how much there is of each, and what every arm of the paper takes of it.
//!
//! The arms are those of Tables 2 and 8 (the mixes at their default starts), Table 3 (continued pretraining: the mixture
//! goes to 100 %) and Figure 4 (when to begin × how much). Nothing is trained.
//!
//!     cargo run --release --example table1                                  # on a generated corpus
//!     cargo run --release --example table1 -- --preset paper --print-plan   # every arm's budget, without any data

use midtrain::study::{Mix, Protocol, Table1};

const fn code(weight: &'static str, start: u64) -> Option<Mix<'static>> {
    Some(Mix { role: "starcoder", weight, start })
}

const PROTOCOL: Protocol<'_> = Protocol {
    arms: &[
        // Tables 2 and 8.
        ("C4", None),
        ("Starcoder (20%)", code("0.20", 6_000)),
        ("Math (12%)", Some(Mix { role: "math", weight: "0.12", start: 20_000 })),
        ("FLAN (5%)", Some(Mix { role: "flan", weight: "0.05", start: 40_000 })),
        ("KnowledgeQA (20%)", Some(Mix { role: "knowledgeqa", weight: "0.20", start: 40_000 })),
        ("DCLM (20%)", Some(Mix { role: "dclm", weight: "0.20", start: 40_000 })),
        // Table 3: from 83 B and 105 B tokens on, at 2.1 M tokens a step.
        ("Ctd. pretrain (Starcoder)", code("1", 39_578)),
        ("Ctd. pretrain (Math)", Some(Mix { role: "math", weight: "1", start: 50_068 })),
        // Figure 4: 12.6 B, 42 B, 63 B, 84 B and 105 B tokens × 10 to 80 %. The text names 80 % at the first start and
        // the last, 10 % at 105 B, and 10 % @ 42 B, 20 % @ 63 B, 30 % @ 84 B; the other cells complete the grid.
        ("Starcoder 10% @ 12.6B", code("0.10", 6_009)),
        ("Starcoder 20% @ 12.6B", code("0.20", 6_009)),
        ("Starcoder 30% @ 12.6B", code("0.30", 6_009)),
        ("Starcoder 80% @ 12.6B", code("0.80", 6_009)),
        ("Starcoder 10% @ 42B", code("0.10", 20_028)),
        ("Starcoder 20% @ 42B", code("0.20", 20_028)),
        ("Starcoder 30% @ 42B", code("0.30", 20_028)),
        ("Starcoder 80% @ 42B", code("0.80", 20_028)),
        ("Starcoder 10% @ 63B", code("0.10", 30_041)),
        ("Starcoder 20% @ 63B", code("0.20", 30_041)),
        ("Starcoder 30% @ 63B", code("0.30", 30_041)),
        ("Starcoder 80% @ 63B", code("0.80", 30_041)),
        ("Starcoder 10% @ 84B", code("0.10", 40_055)),
        ("Starcoder 20% @ 84B", code("0.20", 40_055)),
        ("Starcoder 30% @ 84B", code("0.30", 40_055)),
        ("Starcoder 80% @ 84B", code("0.80", 40_055)),
        ("Starcoder 10% @ 105B", code("0.10", 50_068)),
        ("Starcoder 20% @ 105B", code("0.20", 50_068)),
        ("Starcoder 30% @ 105B", code("0.30", 50_068)),
        ("Starcoder 80% @ 105B", code("0.80", 50_068)),
    ],
    // The sets are needed for a study to be one; nothing here depends on them.
    sft: &[("Pycode", "sft/pycode", false)],
    ..Protocol::PAPER
};

fn main() -> std::process::ExitCode {
    midtrain::run("table1", &PROTOCOL, Table1)
}
