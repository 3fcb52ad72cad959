//! What a plan costs, in tokens, operations, hours and disk, before anything runs.

use std::fmt::Write as _;

use gptneox_model::Compute;
use schedule::{Phase, Span};

use crate::recipe::sft_batches;
use crate::{ArmSpec, Error, LrChoice, Plan, Prepared};

/// An arm's phases in words.
fn mixes(arm: &ArmSpec) -> String {
    let from = |start: Span| match start {
        Span::Steps(step) => format!("from step {step}"),
        Span::Tokens(tokens) => format!("from {tokens} tokens"),
    };
    let phase = |p: &Phase<Span>| match &p.specialised {
        Some(shares) => format!("{} of {shares} {}", p.weight, from(p.start)),
        None => format!("general text {}", from(p.start)),
    };
    if arm.is_control() {
        return "general text only".to_owned();
    }
    arm.phases.iter().map(phase).collect::<Vec<_>>().join(", ")
}

impl Plan {
    /// Tokens of pretraining, shared prefixes counted once.
    pub fn pretrain_tokens(&self) -> u64 {
        let per_step = self.spec.pretrain.batch * self.spec.pretrain.time as u64;
        self.nodes.iter().map(|n| (n.until - n.from) * per_step).sum()
    }

    /// Tokens that pretraining would take if every arm were trained from scratch.
    pub fn unshared_tokens(&self) -> u64 {
        let p = &self.spec.pretrain;
        self.arms.len() as u64 * self.spec.pretrain_seeds * p.steps * p.batch * p.time as u64
    }

    /// Fine-tunes, those of the learning-rate sweep included.
    pub fn finetunes(&self) -> u64 {
        let s = &self.spec;
        let sets = s.sft.sets.len() as u64;
        let runs = self.arms.len() as u64 * sets * s.pretrain_seeds * s.sft_seeds;
        match &s.sft.lr {
            LrChoice::Fixed { .. } => runs,
            // The winner is one of the runs.
            LrChoice::SweepBase { grid } => runs + (grid.len() as u64 - 1) * sets,
            LrChoice::SweepEach { grid } => runs + (grid.len() as u64 - 1) * sets * self.arms.len() as u64,
        }
    }

    /// What the study costs and takes, as text. `flops_per_second` is what the engine was measured to sustain.
    pub fn describe(&self, prepared: Option<&Prepared>, flops_per_second: Option<f64>) -> String {
        let s = &self.spec;
        let count = s.model.parameter_count();
        let mut out = String::new();
        let mut line = |text: String| {
            let _ = writeln!(out, "{text}");
        };
        line(format!(
            "model {}: {} parameters ({} without embeddings), vocabulary {}",
            s.model_name, count.total, count.without_embeddings, s.model.vocab_size
        ));
        line(format!(
            "pretraining: {} steps x {} sequences x {} tokens = {} tokens an arm",
            s.pretrain.steps,
            s.pretrain.batch,
            s.pretrain.time,
            s.pretrain.steps * s.pretrain.batch * s.pretrain.time as u64
        ));
        line(format!(
            "seeds: {} pretraining x {} fine-tuning, study seed {}",
            s.pretrain_seeds, s.sft_seeds, s.study_seed
        ));
        line(String::new());
        for planned in &self.arms {
            let arm = &planned.arm;
            match &planned.preflight {
                Ok(preflight) => {
                    line(format!("arm {:<18} {}", arm.name, mixes(arm)));
                    for used in &preflight.sources {
                        let b = &used.budget;
                        line(format!(
                            "    {:<16} {:>8} of {:>8} tokens drawn, {} reserved = {:.3} epochs{}",
                            b.source,
                            preflight.tokens(b.drawn).to_string(),
                            preflight.tokens(b.available).to_string(),
                            preflight.tokens(b.reserved),
                            b.epochs(),
                            used.first_repeat.map_or_else(String::new, |step| format!(", repeats from step {step}"))
                        ));
                    }
                    if planned.starts_in_warmup(s.pretrain.warmup).is_some() {
                        line(format!("    note: it starts before the warm-up ends (step {})", s.pretrain.warmup));
                    }
                }
                Err(reason) => line(format!("arm {:<18} REFUSED: {reason}", arm.name)),
            }
        }
        line(String::new());
        let tokens = self.pretrain_tokens();
        line(format!(
            "jobs: {} stretches of pretraining ({tokens} tokens; {} without shared prefixes), {} fine-tunes",
            self.nodes.len(),
            self.unshared_tokens(),
            self.finetunes()
        ));
        let sft_tokens = prepared.and_then(|p| self.finetune_tokens(p).ok());
        let flops = self.flops(sft_tokens.unwrap_or(0));
        line(format!(
            "compute: {flops:.3e} floating-point operations{}",
            if sft_tokens.is_none() { " (pretraining alone: fine-tuning sets are not at hand)" } else { "" }
        ));
        if let Some(speed) = flops_per_second {
            let hours = flops / speed / 3600.0;
            line(format!(
                "time: about {hours:.2} hours at {:.1} GFLOP/s, measured on this machine just now",
                speed / 1e9
            ));
        } else if prepared.is_none() {
            let hours = flops / (0.4 * 989e12) / 3600.0;
            line(format!("time: about {hours:.1} GPU hours at 40 % of 989 TFLOP/s (an H100 in bf16)"));
        }
        let compute = Compute { precision: s.pretrain.precision, recompute: s.pretrain.recompute };
        let row = s.pretrain.time.max(s.sft.max_time);
        let memory = s.model.training_memory((s.pretrain.micro_tokens / row).max(1) * row, compute);
        line(format!(
            "memory: about {:.2} GB, {:.2} of them activations of a micro-batch{}",
            memory.total() as f64 / 1e9,
            memory.activations as f64 / 1e9,
            if compute.recompute { " (blocks are recomputed)" } else { "" }
        ));
        let checkpoint = count.total as f64 * 12.0;
        let disk = checkpoint * self.nodes.len() as f64 + count.total as f64 * 4.0 * self.finetunes() as f64;
        line(format!("disk: about {:.2} GB of checkpoints and models", disk / 1e9));
        out
    }

    /// Tokens of all fine-tuning, evaluation at a third of the cost.
    pub(crate) fn finetune_tokens(&self, prepared: &Prepared) -> Result<u64, Error> {
        let s = &self.spec;
        let evaluation = (s.eval.c4_sequences * s.pretrain.time as u64) / 3;
        let mut total = 0;
        for set in &s.sft.sets {
            let batches = sft_batches(s, prepared, set, 0)?;
            let tokens = batches.report().positions * s.sft.epochs;
            total += (tokens + evaluation) * self.finetunes() / s.sft.sets.len() as u64;
        }
        Ok(total)
    }

    fn flops(&self, sft_tokens: u64) -> f64 {
        let s = &self.spec;
        self.pretrain_tokens() as f64 * s.model.training_flops(s.pretrain.time).total()
            + sft_tokens as f64 * s.model.training_flops(s.sft.max_time).total()
    }
}
