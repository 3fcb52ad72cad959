//! Table 1: the midtraining mixes — how much there is of each, and what every arm of the paper takes of it.
//!
//! The arms are those of Tables 2 and 8 (the mixes at their default starts), Table 3 (continued pretraining: the mixture
//! goes to 100 %) and Figure 4 (when to begin × how much). Nothing is trained.
//!
//!     cargo run --release --example table1                                  # on a generated corpus
//!     cargo run --release --example table1 -- --preset paper --print-plan   # every arm's budget, without any data

use midtrain::protocol::{Arm, C4, DCLM, FLAN, KNOWLEDGE_QA, MATH, PYCODE, Protocol, STARCODER, Start};
use midtrain::study::Table1;

midtrain::allocator!();

/// A billion tokens.
const B: u64 = 1_000_000_000;

/// Code at another start, in tokens, and share.
const fn code(name: &'static str, percent: u32, tokens: u64) -> Arm<'static> {
    Arm::mixed_from(name, "starcoder", percent, Start::Tokens(tokens))
}

const PROTOCOL: Protocol<'_> = Protocol {
    arms: &[
        // Tables 2 and 8.
        C4,
        STARCODER,
        MATH,
        FLAN,
        KNOWLEDGE_QA,
        DCLM,
        // Table 3: from 83 B and 105 B tokens on.
        code("Ctd. pretrain (Starcoder)", 100, 83 * B),
        Arm::mixed_from("Ctd. pretrain (Math)", "math", 100, Start::Tokens(105 * B)),
        // Figure 4: 12.6 B, 42 B, 63 B, 84 B and 105 B tokens × 10 to 80 %. The text names 80 % at the first start and
        // the last, 10 % at 105 B, and 10 % @ 42 B, 20 % @ 63 B, 30 % @ 84 B; the other cells complete the grid.
        code("Starcoder 10% @ 12.6B", 10, 126 * B / 10),
        code("Starcoder 20% @ 12.6B", 20, 126 * B / 10),
        code("Starcoder 30% @ 12.6B", 30, 126 * B / 10),
        code("Starcoder 80% @ 12.6B", 80, 126 * B / 10),
        code("Starcoder 10% @ 42B", 10, 42 * B),
        code("Starcoder 20% @ 42B", 20, 42 * B),
        code("Starcoder 30% @ 42B", 30, 42 * B),
        code("Starcoder 80% @ 42B", 80, 42 * B),
        code("Starcoder 10% @ 63B", 10, 63 * B),
        code("Starcoder 20% @ 63B", 20, 63 * B),
        code("Starcoder 30% @ 63B", 30, 63 * B),
        code("Starcoder 80% @ 63B", 80, 63 * B),
        code("Starcoder 10% @ 84B", 10, 84 * B),
        code("Starcoder 20% @ 84B", 20, 84 * B),
        code("Starcoder 30% @ 84B", 30, 84 * B),
        code("Starcoder 80% @ 84B", 80, 84 * B),
        code("Starcoder 10% @ 105B", 10, 105 * B),
        code("Starcoder 20% @ 105B", 20, 105 * B),
        code("Starcoder 30% @ 105B", 30, 105 * B),
        code("Starcoder 80% @ 105B", 80, 105 * B),
    ],
    // The sets are needed for a study to be one; nothing here depends on them.
    sft: &[PYCODE],
    ..Protocol::PAPER
};

fn main() -> std::process::ExitCode {
    midtrain::run("table1", &PROTOCOL, Table1)
}
