//! From the study's data to token stores: the jobs that lead there, step by step.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::address::Address;
use crate::fingerprints::Fingerprints;
use crate::job::{
    Content, CountRows, CountTokens, Job, Kind as _, MakeTokenizer, RoleSource, RowCounts, Tokenise, Tokenised,
    TokenizerSource,
};
use crate::runner::Runner;
use crate::spec::{DataSpec, GENERAL, TokenizerSpec};
use crate::store::{Root, Store};
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
            padded: 0,
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

/// How far the data are.
pub(crate) enum Prepared {
    /// Tokenised and counted.
    Whole(Data),
    /// These jobs come next; what they give says which follow.
    Needs(Vec<Job>),
}

/// Tokenises and counts what the store lacks. Files that did not change since an earlier run are not read.
///
/// # Errors
/// Any input that cannot be used.
pub fn prepare(study: &Study, store: &Store, engine: &mut dyn Engine, progress: &mut Progress) -> Result<Data, Error> {
    let _using = store.using()?;
    if let Some(data) = without_files(study, store, progress)? {
        return Ok(data);
    }
    let mut known = Fingerprints::read(store.root())?.until(&progress.signal);
    let mut runner = Runner::new(store, engine, progress)?;
    runner.progress.begin();
    loop {
        let prepared = next(study, store, &mut known)?;
        known.write()?;
        match prepared {
            Prepared::Whole(data) => {
                data.roles.iter().for_each(|(role, stores)| say_what_was_left_out(role, stores, runner.progress));
                return Ok(data);
            }
            Prepared::Needs(jobs) => {
                runner.must(&jobs)?;
            }
        }
    }
}

/// The data of an earlier run of the same study, where its files are not there any more.
pub(crate) fn without_files(study: &Study, store: &Store, progress: &Progress) -> Result<Option<Data>, Error> {
    let DataSpec::Files { dir, .. } = &study.spec().data else { return Ok(None) };
    if dir.is_dir() {
        return Ok(None);
    }
    let data = Root::data_of(store, study.spec())?;
    if data.is_some() {
        let dir = dir.display();
        progress.note(&format!("{dir} does not exist; its tokens are known from an earlier run of this study"));
    }
    Ok(data)
}

/// The jobs that come next, or the data.
///
/// 1. The tokenizer: a BPE is trained, a file is copied.
/// 2. The stores of all roles, those with little text first: what is wrong with them shows early.
/// 3. Counts of held-out general text, and of fine-tuning rows.
///
/// # Errors
/// Any input that cannot be used.
pub(crate) fn next(study: &Study, store: &Store, known: &mut Fingerprints) -> Result<Prepared, Error> {
    let spec = study.spec();
    let roles = spec.roles().into_iter().map(|role| RoleSource::new(&spec.data, role, known));
    let sources = roles.collect::<Result<Vec<_>, _>>()?;
    let tokenizer = tokenizer(study, &sources, known)?;
    let Some(made) = store.result::<MakeTokenizer>(&tokenizer.address())? else {
        // Files of another kind or layout are found before anything is made of the others.
        for source in &sources {
            source.open(source.generator().as_ref(), known)?.look()?;
        }
        return Ok(Prepared::Needs(vec![tokenizer.into()]));
    };
    if made.vocab_size > spec.model.vocab_size {
        let limit = format!("is smaller than the tokenizer's vocabulary of {}", made.vocab_size);
        return Err(Error::field("model.vocab_size", spec.model.vocab_size, limit));
    }
    let tokenise = |source: RoleSource| Tokenise {
        source,
        tokenizer: tokenizer.address(),
        tokenizer_fingerprint: made.fingerprint.clone(),
        held_out_permille: spec.held_out_permille,
        deduplicate: spec.deduplicate,
    };
    let mut stores: Vec<Tokenise> = sources.into_iter().map(tokenise).collect();
    stores.sort_by_key(|job| job.source.bytes);
    let (mut roles, mut missing) = (BTreeMap::new(), Vec::new());
    for job in &stores {
        match store.result::<Tokenise>(&job.address())? {
            Some(tokenised) => drop(roles.insert(job.source.role.clone(), tokenised)),
            None => missing.push(job),
        }
    }
    if !missing.is_empty() {
        // Something may be new: looked at before the first of them is begun.
        for job in &missing {
            job.source.open(job.source.generator().as_ref(), known)?.look()?;
        }
        let parts = missing.iter().flat_map(|job| job.parts()).map(Job::from);
        let wholes = missing.iter().map(|job| Job::from((*job).clone()));
        return Ok(Prepared::Needs([Job::from(tokenizer)].into_iter().chain(parts).chain(wholes).collect()));
    }
    let counts = CountTokens {
        name: format!("held-out text of {GENERAL}"),
        tokens: roles[GENERAL].held_out.clone(),
        vocabulary: spec.model.vocab_size,
    };
    let rows: Vec<[CountRows; 2]> = study.sets().map(|set| count_rows(study, set, &roles)).collect();
    let entropy = store.result::<CountTokens>(&counts.address())?.map(|counts| counts.entropy);
    let mut counted = Vec::new();
    for [train, held_out] in &rows {
        let both = (store.result::<CountRows>(&train.address())?, store.result::<CountRows>(&held_out.address())?);
        counted.extend(if let (Some(train), Some(held_out)) = both { Some([train, held_out]) } else { None });
    }
    let mut jobs: Vec<Job> = vec![tokenizer.clone().into()];
    jobs.extend(stores.iter().cloned().map(Job::from));
    jobs.push(counts.into());
    jobs.extend(rows.iter().flatten().cloned().map(Job::from));
    let Some(unigram_entropy) = entropy.filter(|_| counted.len() == rows.len()) else {
        return Ok(Prepared::Needs(jobs));
    };
    // Where their inputs lie now: what is made again later is made from these.
    jobs.iter().try_for_each(|job| store.update(job))?;
    let jobs = jobs.iter().map(Job::address).collect();
    Ok(Prepared::Whole(Data { tokenizer: tokenizer.address(), roles, rows: counted, unigram_entropy, jobs }))
}

fn tokenizer(study: &Study, sources: &[RoleSource], known: &mut Fingerprints) -> Result<MakeTokenizer, Error> {
    let spec = study.spec();
    let source = match &spec.tokenizer {
        TokenizerSpec::File { path } => {
            TokenizerSource::File { path: path.clone(), fingerprint: known.tokenizer(path)?.fingerprint }
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
