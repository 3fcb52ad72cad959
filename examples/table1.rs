//! Table 1: the midtraining mixes — how much there is of each, and what every arm of the paper takes of it.
//!
//! The arms are those of Tables 2 and 8 (the mixes at their default starts), Table 3 (continued pretraining: the mixture
//! goes to 100 %) and Figure 4 (when to begin × how much). Nothing is trained.
//!
//!     cargo run --release --example table1                                  # on a generated corpus
//!     cargo run --release --example table1 -- --preset paper --print-plan   # every arm's budget, without any data

use midtrain::protocol::{Arm, EVERY_ARM, Mix, PYCODE, Protocol};
use midtrain::study::Table1;

midtrain::allocator!();

/// Nothing is drawn twice here: which arm needs more than there is, is one of the answers.
const ONCE: [Arm<'_>; EVERY_ARM.len()] = {
    let mut arms = [EVERY_ARM[0]; EVERY_ARM.len()];
    let mut i = 0;
    while i < arms.len() {
        let mix = match EVERY_ARM[i].mix {
            Some(mix) => Some(Mix { epochs: None, ..mix }),
            None => None,
        };
        arms[i] = Arm { mix, ..EVERY_ARM[i] };
        i += 1;
    }
    arms
};

// The sets are needed for a study to be one; nothing here depends on them.
const PROTOCOL: Protocol<'_> = Protocol { arms: &ONCE, sft: &[PYCODE], ..Protocol::PAPER };

fn main() -> std::process::ExitCode {
    midtrain::run("table1", &PROTOCOL, Table1)
}
