//! Figure 6: how representations of the 70M model (or its stand-in at a preset's size) move in fine-tuning on code, with and
//! without midtraining on it: CKA between all layers of four states, probed with code problems (APPS).
//!
//!     cargo run --release --example figure6
//!     cargo run --release --example figure6 -- --preset mini --data DIR

use midtrain::study::{Mix, Protocol, Representations, Size};

const PROTOCOL: Protocol<'_> = Protocol {
    size: Size::S,
    arms: &[("C4", None), ("Starcoder (20%)", Some(Mix { role: "starcoder", weight: "0.20", start: 6_000 }))],
    sft: &[("Pycode", "sft/pycode", false)],
    probes: &[("APPS", "probe"), ("C4", "general")],
    ..Protocol::PAPER
};

fn main() -> std::process::ExitCode {
    let question = Representations { figure: "figure6", arm: "Starcoder (20%)", set: "Pycode", probe: "APPS" };
    midtrain::run("figure6", &PROTOCOL, question)
}
