//! The paper's protocol in its own words: what an example declares, before a preset gives it a size.
//!
//! ```
//! use study::protocol::{APPS, C4, PYCODE, Protocol, STARCODER, Size};
//!
//! const PROTOCOL: Protocol<'_> =
//!     Protocol { sizes: &[Size::S], arms: &[C4, STARCODER], sft: &[PYCODE], probes: &[APPS], ..Protocol::PAPER };
//! assert_eq!(STARCODER.mix.unwrap().weight.as_f64(), 0.2);
//! # let _ = PROTOCOL;
//! ```

use schedule::{Span, Tokens, Weight};

/// One of the paper's sizes, or its stand-in at a preset's size: findings that depend on size need several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Size {
    /// 70m.
    S,
    /// 160m.
    #[default]
    M,
    /// 410m.
    L,
    /// 1b: of the paper's preset alone.
    Xl,
}

impl Size {
    /// The paper's sizes.
    pub const ALL: [Self; 4] = [Self::S, Self::M, Self::L, Self::Xl];

    /// What a preset's ladder has for it; `None` where the ladder is shorter.
    pub(crate) fn of<T: Copy>(self, ladder: &[T]) -> Option<T> {
        ladder.get(self as usize).copied()
    }

    /// Its letter on the command line.
    pub fn letter(self) -> &'static str {
        ["s", "m", "l", "xl"][self as usize]
    }

    /// The paper's name of it.
    pub fn name(self) -> &'static str {
        ["70m", "160m", "410m", "1b"][self as usize]
    }
}

impl std::str::FromStr for Size {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|size| size.letter() == name || size.name() == name);
        found.ok_or_else(|| "must be s, m, l or xl".to_owned())
    }
}

/// A protocol as the paper states it.
#[derive(Debug, Clone, Copy)]
pub struct Protocol<'a> {
    /// The model's sizes: what speaks of one size speaks of the first.
    pub sizes: &'a [Size],
    /// Steps of the paper's pretraining run.
    pub steps: u64,
    /// What is pretrained on; the first is the control.
    pub arms: &'a [Arm<'a>],
    /// What is fine-tuned on.
    pub sft: &'a [SftSet<'a>],
    /// What representations are probed with.
    pub probes: &'a [Probe<'a>],
}

impl Protocol<'_> {
    /// What the paper's tables and figures have in common: 61 000 steps (of 1024 sequences of 2048 tokens: 128 B
    /// tokens); no arms, sets and probes yet.
    pub const PAPER: Protocol<'static> =
        Protocol { sizes: &[Size::M], steps: 61_000, arms: &[], sft: &[], probes: &[] };
}

/// A pretraining run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Arm<'a> {
    /// Its name.
    pub name: &'a str,
    /// What is mixed in; nothing in the control.
    pub mix: Option<Mix<'a>>,
}

/// What an arm mixes into the general text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mix<'a> {
    /// The specialised role.
    pub role: &'a str,
    /// Its share of each batch.
    pub weight: Weight,
    /// When it begins; presets scale it to their run.
    pub start: Start,
    /// How often a sequence of it may be drawn, where the study's own limit is too low: the arm repeats its source.
    pub epochs: Option<f64>,
}

/// A point of the paper's run, in what the paper gives it in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Optimiser steps.
    Step(u64),
    /// Tokens.
    Tokens(u64),
}

impl Start {
    /// The same point of a run of `steps` steps, where the paper's run has `of` steps of so many tokens; of the paper's run
    /// itself as it is given.
    pub(crate) fn scaled(self, steps: u64, of: u64, tokens_per_step: u64) -> Span {
        let scale = |point: u64, whole: u128| (u128::from(point) * u128::from(steps) / whole.max(1)) as u64;
        match self {
            Self::Step(step) => Span::from(scale(step, of.into())),
            Self::Tokens(tokens) if steps == of => Span::from(Tokens(tokens)),
            Self::Tokens(tokens) => Span::from(scale(tokens, u128::from(of) * u128::from(tokens_per_step))),
        }
    }
}

impl<'a> Arm<'a> {
    /// General text alone.
    pub const fn control(name: &'a str) -> Self {
        Self { name, mix: None }
    }

    /// From a step of the paper's run on, so many percent of each batch are text of a role.
    ///
    /// # Panics
    /// More than 100 %: in a constant, when it is compiled.
    pub const fn mixed(name: &'a str, role: &'a str, percent: u32, step: u64) -> Self {
        Self::mixed_from(name, role, percent, Start::Step(step))
    }

    /// The same from any point on.
    ///
    /// # Panics
    /// As [`mixed`](Self::mixed).
    pub const fn mixed_from(name: &'a str, role: &'a str, percent: u32, start: Start) -> Self {
        let Some(weight) = Weight::from_percent(percent) else { panic!("a share is at most 100 %") };
        Self { name, mix: Some(Mix { role, weight, start, epochs: None }) }
    }

    /// The same, with a source that may be repeated so often.
    #[must_use]
    pub const fn repeating(self, epochs: f64) -> Self {
        match self.mix {
            Some(mix) => Self { mix: Some(Mix { epochs: Some(epochs), ..mix }), ..self },
            None => self,
        }
    }
}

/// A fine-tuning set.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SftSet<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its role.
    pub role: &'a str,
    /// Whether its prompts are left out of the loss.
    pub mask_prompt: bool,
    /// Training examples that the paper states (Table 5): the preset `paper` uses no more.
    pub examples: u64,
    /// Peak learning rates that the paper chose (Table 7), by size.
    pub rates: [f64; 4],
}

impl<'a> SftSet<'a> {
    /// Prompt and answer are both learnt. `rates`: by size.
    pub const fn new(name: &'a str, role: &'a str, examples: u64, rates: [f64; 4]) -> Self {
        Self { name, role, mask_prompt: false, examples, rates }
    }

    /// Only answers are learnt.
    pub const fn answers_only(name: &'a str, role: &'a str, examples: u64, rates: [f64; 4]) -> Self {
        Self { name, role, mask_prompt: true, examples, rates }
    }
}

/// Text that representations are probed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its role.
    pub role: &'a str,
}

/// The control: C4 alone.
pub const C4: Arm<'static> = Arm::control("C4");
/// Code from step 6 000 on: 12.6 B tokens into the run (Section 3).
pub const STARCODER: Arm<'static> = Arm::mixed("Starcoder (20%)", "starcoder", 20, 6_000);
/// Mathematics: a set of 12 B tokens, so that 12 % from step 20 000 on is what it lasts for.
pub const MATH: Arm<'static> = Arm::mixed("Math (12%)", "math", 12, 20_000);
/// Instructions.
pub const FLAN: Arm<'static> = Arm::mixed("FLAN (5%)", "flan", 5, 40_000);
/// Facts and questions.
pub const KNOWLEDGE_QA: Arm<'static> = Arm::mixed("KnowledgeQA (20%)", "knowledgeqa", 20, 40_000);
/// Filtered web text.
pub const DCLM: Arm<'static> = Arm::mixed("DCLM (20%)", "dclm", 20, 40_000);
/// A billion tokens.
const B: u64 = 1_000_000_000;
/// Continued pretraining on code: nothing else from 83 B tokens on (Section 5.2).
pub const CONTINUED_STARCODER: Arm<'static> =
    Arm::mixed_from("Ctd. pretrain (Starcoder)", "starcoder", 100, Start::Tokens(83 * B));
/// The same with mathematics from 105 B tokens on: 23 B tokens of a set of 12 B, so that it is read nearly twice.
pub const CONTINUED_MATH: Arm<'static> =
    Arm::mixed_from("Ctd. pretrain (Math)", "math", 100, Start::Tokens(105 * B)).repeating(2.0);
/// Code at another start and share.
const fn code(name: &'static str, percent: u32, start: Start) -> Arm<'static> {
    Arm::mixed_from(name, "starcoder", percent, start)
}

/// Figure 4: the control, and code from 12.6 B (step 6 000), 42 B, 63 B, 84 B and 105 B tokens on × 10, 20, 30, 50 and 80 %. (The text names 80 % at
/// the first start and the last, 10 % at 105 B, and 10 % @ 42 B, 20 % @ 63 B, 30 % @ 84 B; the other cells complete the grid.)
pub const GRID: &[Arm<'static>] = &[
    C4,
    STARCODER,
    code("Starcoder 10% @ 12.6B", 10, Start::Step(6_000)),
    code("Starcoder 30% @ 12.6B", 30, Start::Step(6_000)),
    code("Starcoder 50% @ 12.6B", 50, Start::Step(6_000)),
    code("Starcoder 80% @ 12.6B", 80, Start::Step(6_000)),
    code("Starcoder 10% @ 42B", 10, Start::Tokens(42 * B)),
    code("Starcoder 20% @ 42B", 20, Start::Tokens(42 * B)),
    code("Starcoder 30% @ 42B", 30, Start::Tokens(42 * B)),
    code("Starcoder 50% @ 42B", 50, Start::Tokens(42 * B)),
    code("Starcoder 80% @ 42B", 80, Start::Tokens(42 * B)),
    code("Starcoder 10% @ 63B", 10, Start::Tokens(63 * B)),
    code("Starcoder 20% @ 63B", 20, Start::Tokens(63 * B)),
    code("Starcoder 30% @ 63B", 30, Start::Tokens(63 * B)),
    code("Starcoder 50% @ 63B", 50, Start::Tokens(63 * B)),
    code("Starcoder 80% @ 63B", 80, Start::Tokens(63 * B)),
    code("Starcoder 10% @ 84B", 10, Start::Tokens(84 * B)),
    code("Starcoder 20% @ 84B", 20, Start::Tokens(84 * B)),
    code("Starcoder 30% @ 84B", 30, Start::Tokens(84 * B)),
    code("Starcoder 50% @ 84B", 50, Start::Tokens(84 * B)),
    code("Starcoder 80% @ 84B", 80, Start::Tokens(84 * B)),
    code("Starcoder 10% @ 105B", 10, Start::Tokens(105 * B)),
    code("Starcoder 20% @ 105B", 20, Start::Tokens(105 * B)),
    code("Starcoder 30% @ 105B", 30, Start::Tokens(105 * B)),
    code("Starcoder 50% @ 105B", 50, Start::Tokens(105 * B)),
    code("Starcoder 80% @ 105B", 80, Start::Tokens(105 * B)),
];
/// The arms of Tables 2 and 8.
pub const ARMS: &[Arm<'static>] = &[C4, STARCODER, MATH, FLAN, KNOWLEDGE_QA, DCLM];
/// Every arm of the tables and figures: [`ARMS`], continued pretraining, and what else is in the [`GRID`].
pub const EVERY_ARM: &[Arm<'static>] = &{
    let mut all = [C4; ARMS.len() + 2 + GRID.len() - 2];
    let lists = [ARMS, &[CONTINUED_STARCODER, CONTINUED_MATH], GRID.split_at(2).1];
    let (mut next, mut list) = (0, 0);
    while list < lists.len() {
        let mut i = 0;
        while i < lists[list].len() {
            all[next] = lists[list][i];
            next += 1;
            i += 1;
        }
        list += 1;
    }
    all
};

/// Code problems.
pub const PYCODE: SftSet<'static> = SftSet::new("Pycode", "sft/pycode", 5_000, [1e-3, 5e-4, 4e-4, 9e-5]);
/// Word problems.
pub const GSM8K: SftSet<'static> = SftSet::answers_only("GSM8K", "sft/gsm8k", 7_500, [8e-4, 4e-4, 4e-4, 7e-5]);
/// Conversations.
pub const LIMA: SftSet<'static> = SftSet::new("LIMA", "sft/lima", 1_000, [1.2e-4, 5e-5, 5e-5, 2e-5]);
/// Science questions. Appendix C's text masks GSM8K's prompts alone; Table 5 masks these too, as here.
pub const SCIQ: SftSet<'static> = SftSet::answers_only("SciQ", "sft/sciq", 13_679, [8e-4, 2.4e-4, 6e-4, 9e-5]);
/// The peak rates that the paper swept (Table 6), on the checkpoint before midtraining (Appendix C).
pub const RATES: &[f64] = &[
    4e-6, 8e-6, 1e-5, 2e-5, 4e-5, 5e-5, 6e-5, 7e-5, 8e-5, 9e-5, 1e-4, 1.2e-4, 1.4e-4, 1.6e-4, 1.8e-4, 2e-4, 2.4e-4,
    4e-4, 5e-4, 6e-4, 8e-4, 1e-3, 2e-3, 3e-3, 4e-3, 6e-3,
];

/// The fine-tuning sets (Table 5).
pub const SFT: &[SftSet<'static>] = &[PYCODE, GSM8K, LIMA, SCIQ];

/// Code problems that nothing is trained on.
pub const APPS: Probe<'static> = Probe { name: "APPS", role: "probe" };
/// Held-out general text.
pub const GENERAL: Probe<'static> = Probe { name: "C4", role: "general" };
/// The probes of Figures 6 and 9 to 13.
pub const PROBES: &[Probe<'static>] = &[APPS, GENERAL];
