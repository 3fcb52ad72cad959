//! From the study's data to token stores. Everything is read and checked before the first file is written.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::address::Address;
use crate::job::{
    Content, CountRows, CountTokens, Job, Kind as _, MakeTokenizer, RoleSource, RowCounts, TokenCounts, Tokenise,
    Tokenised, TokenizerSource,
};
use crate::run::Runner;
use crate::spec::{DataSpec, GENERAL, TokenizerSpec};
use crate::store::{Root, Status, Store};
use crate::{Engine, Error, Progress, SetId, Study};

/// The study's data, tokenised and counted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Data {
    /// The tokenizer's job.
    pub(crate) tokenizer: Address,
    /// Stores by role.
    pub(crate) roles: BTreeMap<String, Tokenised>,
    /// Rows of each fine-tuning set, in the study's order: training, held out.
    rows: Vec<[RowCounts; 2]>,
    /// Entropy of the held-out general text's token distribution, in nats: the loss without any context.
    pub(crate) unigram_entropy: f64,
    /// The jobs that made it.
    pub(crate) jobs: Vec<Address>,
}

impl Data {
    /// Stated token counts, for a plan.
    pub(crate) fn stated(study: &Study) -> Result<Self, Error> {
        let spec = study.spec();
        let DataSpec::Stated { tokens } = &spec.data else {
            return Err(Error::field("data", "given", "is to be prepared, not stated"));
        };
        let tokenised = |role: String| {
            let content = Content::stated(&role, tokens.get(&role).copied().unwrap_or(0));
            let held_out = Content::stated(&role, u64::MAX);
            let stores = Tokenised { train: content, held_out, duplicates: 0, skipped: 0, first_skipped: None };
            (role, stores)
        };
        let rows = |examples: u64| RowCounts {
            report: data_mixer::SftReport { examples, ..Default::default() },
            steps: examples.div_ceil(spec.sft.batch as u64).saturating_mul(spec.sft.epochs),
        };
        Ok(Self {
            tokenizer: Address::named("stated", "tokenizer"),
            roles: spec.roles().into_iter().map(tokenised).collect(),
            rows: study.sets().map(|_| [rows(spec.sft.examples), rows(spec.sft.held_out)]).collect(),
            unigram_entropy: 0.0,
            jobs: Vec::new(),
        })
    }

    /// Training rows of a set.
    pub(crate) fn train_rows(&self, set: SetId) -> &RowCounts {
        &self.rows[set.place()][0]
    }

    /// Held-out rows of a set.
    pub(crate) fn held_out_rows(&self, set: SetId) -> &RowCounts {
        &self.rows[set.place()][1]
    }

    /// A role's stores.
    pub(crate) fn role(&self, role: &str) -> &Tokenised {
        &self.roles[role]
    }

    /// Training sequences of a role.
    pub(crate) fn sequences(&self, time: usize) -> impl Fn(&str) -> u64 + '_ {
        move |role| self.roles.get(role).map_or(0, |r| r.train.sequences(time))
    }
}

/// Tokenises and counts what the store lacks.
///
/// # Errors
/// Any input that cannot be used, before anything is written.
pub fn prepare(study: &Study, store: &Store, engine: &dyn Engine, progress: &mut Progress) -> Result<Data, Error> {
    let spec = study.spec();
    let _using = store.using()?;
    if let DataSpec::Files { dir, .. } = &spec.data
        && !dir.is_dir()
        && let Some(data) = Root::data_of(store, spec)?
    {
        let dir = dir.display();
        progress.note(&format!("{dir} does not exist; its tokens are known from an earlier run of this study"));
        return Ok(data);
    }
    let roles = spec.roles().into_iter().map(|role| RoleSource::new(&spec.data, role));
    let sources = roles.collect::<Result<Vec<_>, _>>()?;
    let tokenizer = tokenizer(study, &sources)?;
    let tokenise = |fingerprint: &str| {
        let job = |source: &RoleSource| Tokenise {
            source: source.clone(),
            tokenizer: tokenizer.address(),
            tokenizer_fingerprint: fingerprint.to_owned(),
            held_out_permille: spec.held_out_permille,
            deduplicate: spec.deduplicate,
        };
        sources.iter().map(job).collect::<Vec<_>>()
    };
    // All of it is looked at before the first file is written.
    let known = store.result::<MakeTokenizer>(&tokenizer.address())?;
    let all_there = match &known {
        Some(made) => {
            let mut stores = tokenise(&made.fingerprint).into_iter();
            stores.try_fold(true, |all, job| Ok::<_, Error>(all && is_done(store, &job)?))?
        }
        None => false,
    };
    if !all_there {
        for source in &sources {
            progress.note(&format!("reading {}", source.role));
            let generator = source.generator();
            source.open(generator.as_ref())?.check(spec.held_out_permille, &progress.signal)?;
        }
    }
    let mut runner = Runner::new(store, engine, progress);
    runner.must(&[tokenizer.clone().into()])?;
    let made = runner.output(&tokenizer)?;
    if made.vocab_size > spec.model.vocab_size {
        let limit = format!("is smaller than the tokenizer's vocabulary of {}", made.vocab_size);
        return Err(Error::field("model.vocab_size", spec.model.vocab_size, limit));
    }
    let stores = tokenise(&made.fingerprint);
    runner.must(&stores.iter().cloned().map(Job::from).collect::<Vec<_>>())?;
    let mut roles = BTreeMap::new();
    for job in &stores {
        let tokenised = runner.output(job)?;
        say_what_was_left_out(&job.source.role, &tokenised, runner.progress);
        roles.insert(job.source.role.clone(), tokenised);
    }
    let counts = CountTokens {
        name: format!("held-out text of {GENERAL}"),
        tokens: roles[GENERAL].held_out.clone(),
        vocabulary: spec.model.vocab_size,
    };
    let rows: Vec<[CountRows; 2]> = study.sets().map(|set| count_rows(study, set, &roles)).collect();
    let mut jobs: Vec<Job> = vec![counts.clone().into()];
    jobs.extend(rows.iter().flatten().cloned().map(Job::from));
    runner.must(&jobs)?;
    let TokenCounts { entropy, .. } = runner.output(&counts)?;
    let rows = rows
        .iter()
        .map(|[train, held_out]| Ok([runner.output(train)?, runner.output(held_out)?]))
        .collect::<Result<Vec<_>, Error>>()?;
    let made_by = [tokenizer.address()].into_iter().chain(stores.iter().map(Tokenise::address));
    let jobs = made_by.chain(jobs.iter().map(Job::address)).collect();
    Ok(Data { tokenizer: tokenizer.address(), roles, rows, unigram_entropy: entropy, jobs })
}

fn is_done(store: &Store, job: &Tokenise) -> Result<bool, Error> {
    Ok(matches!(store.status::<Tokenise>(&job.address())?, Status::Done { .. }))
}

fn tokenizer(study: &Study, sources: &[RoleSource]) -> Result<MakeTokenizer, Error> {
    let spec = study.spec();
    let source = match &spec.tokenizer {
        TokenizerSpec::File { path } => {
            let tokenizer = corpus::Tokenizer::from_file(path)?;
            TokenizerSource::File { path: path.clone(), fingerprint: tokenizer.fingerprint().to_owned() }
        }
        TokenizerSpec::Bpe { vocab_size, roles, max_bytes } => TokenizerSource::Trained {
            vocab_size: *vocab_size,
            max_bytes: *max_bytes,
            held_out_permille: spec.held_out_permille,
            roles: sources.iter().filter(|s| roles.contains(&s.role)).cloned().collect(),
        },
    };
    Ok(MakeTokenizer { source })
}

fn count_rows(study: &Study, set: SetId, roles: &BTreeMap<String, Tokenised>) -> [CountRows; 2] {
    let (stores, s) = (&roles[&study[set].role], &study.spec().sft);
    let rows = |tokens: &Content, what: &str, examples: u64| CountRows {
        name: format!("{what} of {}", study[set].name),
        tokens: tokens.clone(),
        examples,
        rows: study.rows(set, 0),
    };
    [rows(&stores.train, "training examples", s.examples), rows(&stores.held_out, "held-out examples", s.held_out)]
}

fn say_what_was_left_out(role: &str, tokenised: &Tokenised, progress: &Progress) {
    if tokenised.duplicates > 0 {
        progress.note(&format!("{role}: {} duplicates left out", tokenised.duplicates));
    }
    if let Some(first) = &tokenised.first_skipped {
        progress.note(&format!("{role}: {} malformed records left out, the first: {first}", tokenised.skipped));
    }
}
