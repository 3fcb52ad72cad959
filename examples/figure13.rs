//! Figure 13: how representations of the 410M model (or its stand-in at a preset's size) move in fine-tuning on code, with and
//! without midtraining on it: CKA between all layers of four states, probed with held-out general text (C4).
//!
//!     cargo run --release --example figure13
//!     cargo run --release --example figure13 -- --preset mini --data DIR

use midtrain::study::{Mix, Protocol, Representations, Size};

const PROTOCOL: Protocol<'_> = Protocol {
    size: Size::L,
    arms: &[("C4", None), ("Starcoder (20%)", Some(Mix { role: "starcoder", weight: "0.20", start: 6_000 }))],
    sft: &[("Pycode", "sft/pycode", false)],
    probes: &[("APPS", "probe"), ("C4", "general")],
    ..Protocol::PAPER
};

fn main() -> std::process::ExitCode {
    let question = Representations { figure: "figure13", arm: "Starcoder (20%)", set: "Pycode", probe: "C4" };
    midtrain::run("figure13", &PROTOCOL, question)
}
