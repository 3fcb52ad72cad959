//! Runs a plan's jobs that the store lacks.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use data_mixer::{BatchSource as _, MixedBatches, Sequences};
use schedule::{Shares, Step, Timeline};
use serde::Serialize;
use serde::de::DeserializeOwned;
use trainer::TrainSpec;

use crate::address::{FinetuneKey, PretrainKey};
use crate::engine::GeneralEval;
use crate::files::{key, read_json, remove_leftovers, write_json};
use crate::recipe::{build_mix, finetune_recipe, pretrain_recipe, pretrain_seed, sft_batches, sft_held_out};
use crate::results::SweepPoint;
use crate::spec::GENERAL;
use crate::{
    Engine, Error, FinetuneJob, FinetuneResult, LrChoice, Measurement, Plan, Prepared, PretrainJob, PretrainResult,
    Progress, StudyResults, StudySpec,
};

/// What an execution needs.
pub struct Execution<'a> {
    /// The study.
    pub spec: &'a StudySpec,
    /// Its data.
    pub prepared: &'a Prepared,
    /// Its jobs.
    pub plan: &'a Plan,
    /// What runs them.
    pub engine: &'a dyn Engine,
    /// The folder of content-addressed results.
    pub store: &'a Path,
}

/// Runs what is missing and collects everything.
///
/// # Errors
/// A job that failed, or a signal; what was finished stays in the store.
pub fn execute(execution: &Execution<'_>, progress: &mut Progress) -> Result<StudyResults, Error> {
    let Execution { spec, prepared, plan, .. } = execution;
    progress.begin(plan.pretrain_tokens() + plan.finetune_tokens(prepared)?);
    let general = GeneralEval {
        sequences: Sequences::new(prepared.roles[GENERAL].held_out.clone(), spec.pretrain.time)?
            .with_document_mask(spec.pretrain.document_mask),
        count: spec.eval.c4_sequences,
        store: prepared.roles[GENERAL].held_out.clone(),
    };
    let general = GeneralEval { count: general.count.min(general.sequences.len()), ..general };
    if general.count == 0 {
        let limit = format!("tokens do not fill one sequence of {}", spec.pretrain.time);
        let have = prepared.roles[GENERAL].held_out.token_count();
        return Err(Error::field("held-out general text", have, limit));
    }
    let mut run = Run { execution, general, keys: Vec::new(), results: Vec::new(), counted: HashSet::new(), progress };
    for node in 0..plan.nodes.len() {
        run.pretrain(node)?;
    }
    run.finetune_all()
}

/// The recipe without what changes no result.
fn addressed(recipe: &TrainSpec) -> TrainSpec {
    TrainSpec { recompute: false, ..recipe.clone() }
}

struct Run<'a, 'b> {
    execution: &'a Execution<'b>,
    general: GeneralEval,
    /// Addresses and results of the pretraining nodes, in the plan's order.
    keys: Vec<String>,
    results: Vec<PretrainResult>,
    /// Jobs that progress has counted.
    counted: HashSet<PathBuf>,
    progress: &'a mut Progress,
}

impl Run<'_, '_> {
    fn folder(&self, kind: &str, key: &str) -> PathBuf {
        self.execution.store.join(kind).join(key)
    }

    /// The stored result, or `job`'s, stored; progress counts its tokens.
    fn once<T: Serialize + DeserializeOwned>(
        &mut self,
        dir: &Path,
        tokens: u64,
        inputs: &impl Serialize,
        job: impl FnOnce(&mut Progress) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let done = dir.join("done.json");
        // The winner of a sweep is asked for twice: it counts once.
        let counts = self.counted.insert(dir.to_owned());
        if let Some(result) = read_json(&done)? {
            // A kill may have come between the result and this.
            remove_leftovers(dir)?;
            if counts {
                self.progress.skip(tokens);
            }
            return Ok(result);
        }
        self.progress.signal.check()?;
        write_json(&dir.join("inputs.json"), inputs)?;
        let result = job(self.progress)?;
        write_json(&done, &result)?;
        remove_leftovers(dir)?;
        Ok(result)
    }

    fn pretrain(&mut self, index: usize) -> Result<(), Error> {
        let Execution { spec, prepared, plan, engine, .. } = *self.execution;
        let node = &plan.nodes[index];
        let recipe = pretrain_recipe(spec);
        let sides = node.phases.iter().flat_map(|p| p.specialised.iter().chain(&p.general));
        let sources = sides.flat_map(|shares| shares.iter().map(|(name, _)| name.to_owned()));
        let sources = sources.map(|name| {
            let fingerprint = prepared.roles[&name].train.fingerprint();
            (name, fingerprint)
        });
        let inputs = PretrainKey {
            kind: "pretrain 4",
            engine: engine.name(),
            model: &spec.model,
            init_seed: pretrain_seed(spec, "first weights", node.seed),
            data_seed: pretrain_seed(spec, "pretraining data", node.seed),
            recipe: &addressed(&recipe),
            batch: spec.pretrain.batch,
            time: spec.pretrain.time,
            general: prepared.roles[GENERAL].train.fingerprint(),
            phases: &node.phases,
            sources: sources.collect(),
            document_mask: spec.pretrain.document_mask,
            evaluation: (prepared.roles[GENERAL].held_out.fingerprint(), self.general.count),
            parent: node.parent.map(|p| self.keys[p].clone()),
            until: Step(node.until),
        };
        let address = key(&inputs);
        let dir = self.folder("pretrain", &address);
        let timeline = Shares::one(GENERAL)
            .and_then(|general| Timeline::new(Step(spec.pretrain.steps), general, node.phases.clone()))
            .map_err(|source| Error::Schedule { what: node.label.clone(), source })?;
        let mix = build_mix(spec, &node.label, timeline, node.seed, &prepared.sequences(spec))?;
        let names = mix.spec().sources.iter().map(|s| &s.name);
        let sources = names
            .map(|name| {
                let sequences = Sequences::new(prepared.roles[name].train.clone(), spec.pretrain.time)?;
                Ok(sequences.with_document_mask(spec.pretrain.document_mask))
            })
            .collect::<Result<Vec<_>, Error>>()?;
        let tokens = (node.until - node.from) * spec.pretrain.batch * spec.pretrain.time as u64;
        let job = PretrainJob {
            label: node.label.clone(),
            dir: dir.clone(),
            parent: node.parent.map(|p| self.folder("pretrain", &self.keys[p])),
            model: spec.model.clone(),
            init_seed: inputs.init_seed,
            recipe: recipe.clone(),
            batches: Box::new(MixedBatches::new(mix, sources)?),
            until: node.until,
            general: self.general.clone(),
            tokens,
        };
        let result = self.once(&dir, tokens, &inputs, |progress| engine.pretrain(&job, progress))?;
        self.keys.push(address);
        self.results.push(result);
        Ok(())
    }

    /// One fine-tune of an arm's model.
    fn finetune(
        &mut self,
        arm: usize,
        set: usize,
        pretrain_seed: u64,
        sft_seed: u64,
        lr: f64,
    ) -> Result<(String, FinetuneResult), Error> {
        let Execution { spec, prepared, plan, engine, .. } = *self.execution;
        let node = plan.arms[arm].ends[pretrain_seed as usize];
        let base = self.keys[node].clone();
        let s = &spec.sft;
        let set_spec = &s.sets[set];
        let batches = sft_batches(spec, prepared, set_spec, sft_seed)?;
        let recipe = finetune_recipe(spec, lr, batches.steps());
        let stores = &prepared.roles[&set_spec.role];
        let inputs = FinetuneKey {
            kind: "finetune 5",
            base: &base,
            recipe: &addressed(&recipe),
            rows: (s.epochs, s.batch, s.max_time, s.truncation, s.examples, s.held_out, set_spec.mask_prompt),
            order_seed: data_mixer::stream_key(spec.study_seed, "fine-tuning order", sft_seed),
            stores: [
                stores.train.fingerprint(),
                stores.held_out.fingerprint(),
                prepared.roles[GENERAL].held_out.fingerprint(),
            ],
            c4_sequences: self.general.count,
        };
        let address = key(&inputs);
        let dir = self.folder("finetune", &address);
        let tokens = batches.report().positions * s.epochs;
        let job = FinetuneJob {
            label: format!("{} on {}, lr {lr:e}, seed {sft_seed}", spec.arms[arm].name, set_spec.name),
            dir: dir.clone(),
            base: self.folder("pretrain", &base),
            recipe: recipe.clone(),
            lr,
            batches,
            held_out: sft_held_out(spec, prepared, set_spec)?,
            general: self.general.clone(),
            tokenizer: prepared.tokenizer_file.clone(),
            tokens,
        };
        let evaluation = self.general.count * spec.pretrain.time as u64 / 3;
        let result = self.once(&dir, tokens + evaluation, &inputs, |progress| {
            let result = engine.finetune(&job, progress)?;
            progress.advance(evaluation, &job.label);
            Ok(result)
        })?;
        Ok((address, result))
    }

    /// The rate with the lowest held-out loss of the grid, tried on an arm's first model with the first seed.
    fn sweep(&mut self, arm: usize, set: usize, grid: &[f64], points: &mut Vec<SweepPoint>) -> Result<f64, Error> {
        let mut best = (f64::INFINITY, 0);
        for (i, lr) in grid.iter().enumerate() {
            let (finetune_key, result) = self.finetune(arm, set, 0, 0, *lr)?;
            points.push(SweepPoint { arm, set, lr: *lr, sft_loss: result.sft.loss, finetune_key });
            if result.sft.loss < best.0 {
                best = (result.sft.loss, i);
            }
        }
        if grid.len() > 1 && (best.1 == 0 || best.1 + 1 == grid.len()) {
            let (set, lr) = (&self.execution.spec.sft.sets[set].name, grid[best.1]);
            self.progress.note(&format!("{set}: the best learning rate, {lr:e}, lies at the edge of the grid"));
        }
        Ok(grid[best.1])
    }

    fn finetune_all(&mut self) -> Result<StudyResults, Error> {
        let Execution { spec, prepared, plan, engine, .. } = *self.execution;
        let control = spec.control().expect("a validated spec has a control");
        let mut sweep = Vec::new();
        let mut measurements = Vec::new();
        for set in 0..spec.sft.sets.len() {
            let shared = match &spec.sft.lr {
                LrChoice::Fixed { lr } => Some(*lr),
                LrChoice::SweepBase { grid } => Some(self.sweep(control, set, grid, &mut sweep)?),
                LrChoice::SweepEach { .. } => None,
            };
            for arm in 0..spec.arms.len() {
                let lr = match (&spec.sft.lr, shared) {
                    (LrChoice::SweepEach { grid }, _) => self.sweep(arm, set, grid, &mut sweep)?,
                    (_, lr) => lr.unwrap_or(f64::NAN),
                };
                for pretrain_seed in 0..spec.pretrain_seeds {
                    for sft_seed in 0..spec.sft_seeds {
                        let (finetune_key, result) = self.finetune(arm, set, pretrain_seed, sft_seed, lr)?;
                        let node = plan.arms[arm].ends[pretrain_seed as usize];
                        measurements.push(Measurement {
                            arm,
                            set,
                            pretrain_seed,
                            sft_seed,
                            lr,
                            sft_loss: result.sft.loss,
                            sft_document_se: result.sft.standard_error,
                            c4_before: self.results[node].c4.loss,
                            c4_loss: result.c4.loss,
                            c4_document_se: result.c4.standard_error,
                            c4_bits_per_byte: result.c4.bits_per_byte,
                            examples: result.examples,
                            truncated: result.truncated,
                            dropped: result.dropped,
                            pretrain_key: self.keys[node].clone(),
                            finetune_key,
                        });
                    }
                }
            }
        }
        let before = |arm: &crate::PlannedArm| arm.ends.iter().map(|node| self.results[*node].c4.loss).collect();
        let fork = |node: &usize| {
            let node = &plan.nodes[*node];
            node.parent.filter(|_| !node.phases.is_empty()).map(|parent| self.keys[parent].clone())
        };
        let forks = plan.arms.iter().map(|arm| arm.ends.iter().map(fork).collect()).collect();
        Ok(StudyResults {
            measurements,
            sweep,
            c4_before: plan.arms.iter().map(before).collect(),
            forks,
            unigram_entropy: prepared.unigram_entropy,
            engine: engine.name().to_owned(),
        })
    }
}
