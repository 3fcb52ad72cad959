//! The theory of forgetting (Section 2, Appendix A) on a study's own fine-tuning paths: gradient alignment, energy and
//! effort (Eq. 3 to 5) with gradients taken at every step, what midtraining changed at initialisation (Eq. 14 and 15), and
//! how far it went (Eq. 17 to 19).
//!
//!     cargo run --release --example theory

use midtrain::study::{Mix, Protocol, Theory};

const PROTOCOL: Protocol<'_> = Protocol {
    arms: &[
        ("C4", None),
        ("Starcoder (20%)", Some(Mix { role: "starcoder", weight: "0.20", start: 6_000 })),
        ("Math (12%)", Some(Mix { role: "math", weight: "0.12", start: 20_000 })),
    ],
    sft: &[("Pycode", "sft/pycode", false), ("GSM8K", "sft/gsm8k", true)],
    ..Protocol::PAPER
};

fn main() -> std::process::ExitCode {
    midtrain::run("theory", &PROTOCOL, Theory)
}
