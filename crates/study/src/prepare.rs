//! From the study's data to token stores. Everything is read and checked before the first file is written.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use corpus::{
    BuildProgress, BuiltStores, Document, Domain, Generator, Input, SourceFiles, StoreBuilder, TokenStore, Tokenizer,
    is_held_out, train_bpe,
};
use metrics_proximity::Counts;

use crate::files::key;
use crate::spec::GENERAL;
use crate::{DataSpec, Error, RoleFiles, StudySpec, TokenizerSpec};

/// A role's two stores.
#[derive(Debug, Clone)]
pub struct RoleStores {
    /// What is trained on.
    pub train: Arc<TokenStore>,
    /// What is evaluated on, never trained on.
    pub held_out: Arc<TokenStore>,
}

/// The study's data, tokenised.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// The tokenizer's fingerprint.
    pub tokenizer: String,
    /// Its file.
    pub tokenizer_file: PathBuf,
    /// Its vocabulary.
    pub vocab_size: usize,
    /// Stores by role.
    pub roles: BTreeMap<String, RoleStores>,
    /// Entropy of the held-out general text's token distribution, in nats: the loss without any context.
    pub unigram_entropy: f64,
}

impl Prepared {
    /// Training sequences of a role.
    pub(crate) fn sequences<'a>(&'a self, spec: &StudySpec) -> impl Fn(&str) -> u64 + 'a {
        let time = spec.pretrain.time as u64;
        move |role| {
            let tokens = self.roles.get(role).map_or(0, |r| r.train.token_count());
            tokens.saturating_sub(1) / time
        }
    }
}

/// A role's documents before they are tokens: recipes that can be read more than once, and their fingerprint.
struct RoleInput<'a> {
    role: String,
    fingerprint: String,
    parts: Vec<Input<'a>>,
}

/// Tokenises what the store lacks.
///
/// # Errors
/// Any input that cannot be used, before anything is written.
pub fn prepare(spec: &StudySpec, store: &Path, note: &mut dyn FnMut(&str)) -> Result<Prepared, Error> {
    spec.validate()?;
    let generator = match &spec.data {
        DataSpec::Generated { seed, .. } => Some(Generator::new(*seed)),
        _ => None,
    };
    let inputs = spec
        .roles()
        .into_iter()
        .map(|role| RoleInput::new(spec, role, generator.as_ref()))
        .collect::<Result<Vec<_>, _>>()?;
    let given = match &spec.tokenizer {
        TokenizerSpec::File { path } => Some(Tokenizer::from_file(path)?),
        TokenizerSpec::Bpe { .. } => None,
    };
    if let Some(tokenizer) = &given {
        check_vocabulary(spec, tokenizer)?;
    }
    let source = match &given {
        Some(tokenizer) => tokenizer.fingerprint().to_owned(),
        None => {
            let roles = spec.tokenizer.roles();
            let prints = inputs.iter().filter(|i| roles.contains(&i.role)).map(|i| i.fingerprint.as_str());
            key(&(&spec.tokenizer, prints.collect::<Vec<_>>(), spec.held_out_permille))
        }
    };
    let addresses: Vec<PathBuf> = inputs
        .iter()
        .map(|input| {
            store.join("data").join(key(&(
                "stores",
                2,
                &input.fingerprint,
                &source,
                spec.held_out_permille,
                spec.deduplicate,
            )))
        })
        .collect();
    if !addresses.iter().all(|address| BuiltStores::exist(address)) {
        // All of it is looked at before the first file is written.
        for input in &inputs {
            note(&format!("reading {}", input.role));
            input.check(spec.held_out_permille)?;
        }
        let tokenizer = match given {
            Some(tokenizer) => tokenizer,
            None => trained(spec, &inputs, &bpe_file(store, &source), note)?,
        };
        check_vocabulary(spec, &tokenizer)?;
        for (input, address) in inputs.iter().zip(&addresses).filter(|(_, address)| !BuiltStores::exist(address)) {
            note(&format!("tokenising {}", input.role));
            let builder = StoreBuilder::new(&tokenizer, &input.role)
                .held_out_permille(spec.held_out_permille)
                .deduplicate(spec.deduplicate);
            let mut said = Instant::now();
            let report = builder.build(&input.parts, address, &mut |progress| {
                if said.elapsed() > Duration::from_secs(10) {
                    said = Instant::now();
                    note(&tokenising(&input.role, progress));
                }
            })?;
            if report.duplicates > 0 {
                note(&format!("{}: {} duplicates left out", input.role, report.duplicates));
            }
            if let Some(first) = report.first_skipped {
                note(&format!("{}: {} malformed records left out, the first: {first}", input.role, report.skipped));
            }
        }
    }
    let tokenizer_file = match &spec.tokenizer {
        TokenizerSpec::File { path } => path.clone(),
        TokenizerSpec::Bpe { .. } => bpe_file(store, &source),
    };
    open(spec, &inputs, &addresses, tokenizer_file)
}

fn tokenising(role: &str, progress: &BuildProgress<'_>) -> String {
    format!(
        "tokenising {role}: {} of {} inputs, {} documents, {:.0} documents/s, {:.1} MB/s",
        progress.inputs_done,
        progress.inputs,
        progress.documents,
        progress.documents_per_second(),
        progress.megabytes_per_second()
    )
}

/// Where a tokenizer trained by a study lies.
fn bpe_file(store: &Path, address: &str) -> PathBuf {
    store.join("data").join(address).join("tokenizer.json")
}

fn check_vocabulary(spec: &StudySpec, tokenizer: &Tokenizer) -> Result<(), Error> {
    if tokenizer.vocab_size() > spec.model.vocab_size {
        let limit = format!("is smaller than the tokenizer's vocabulary of {}", tokenizer.vocab_size());
        return Err(Error::field("model.vocab_size", spec.model.vocab_size, limit));
    }
    Ok(())
}

fn open(
    spec: &StudySpec,
    inputs: &[RoleInput<'_>],
    addresses: &[PathBuf],
    tokenizer_file: PathBuf,
) -> Result<Prepared, Error> {
    let mut roles = BTreeMap::new();
    for (input, address) in inputs.iter().zip(addresses) {
        let BuiltStores { train, held_out } = BuiltStores::open(address)?;
        let stores = RoleStores { train: Arc::new(train), held_out: Arc::new(held_out) };
        stores.train.verify()?;
        stores.held_out.verify()?;
        roles.insert(input.role.clone(), stores);
    }
    let general = &roles[GENERAL];
    let counts = Counts::of_store(spec.model.vocab_size, &general.held_out)?;
    Ok(Prepared {
        tokenizer: general.train.tokenizer().to_owned(),
        tokenizer_file,
        vocab_size: spec.model.vocab_size,
        unigram_entropy: counts.entropy(),
        roles,
    })
}

/// The BPE of the study: read where it is stored, else trained and stored.
fn trained(
    spec: &StudySpec,
    inputs: &[RoleInput<'_>],
    path: &Path,
    note: &mut dyn FnMut(&str),
) -> Result<Tokenizer, Error> {
    let TokenizerSpec::Bpe { vocab_size, roles, max_bytes } = &spec.tokenizer else {
        return Err(Error::field("tokenizer", "file", "is not to be trained"));
    };
    if path.exists() {
        return Ok(Tokenizer::from_file(path)?);
    }
    note(&format!("training a BPE of {vocab_size} tokens"));
    let share = max_bytes / (roles.len().max(1) as u64);
    let mut texts = Vec::new();
    for input in inputs.iter().filter(|i| roles.contains(&i.role)) {
        let mut bytes = 0u64;
        input.each(spec.held_out_permille, &mut |document, held_out| {
            if held_out {
                return ControlFlow::Continue(());
            }
            if bytes > share {
                return ControlFlow::Break(());
            }
            let text = document.whole();
            bytes += text.len() as u64;
            texts.push(text);
            ControlFlow::Continue(())
        })?;
    }
    let tokenizer = train_bpe(texts.into_iter(), *vocab_size)?;
    tokenizer.save(path)?;
    Ok(tokenizer)
}

impl<'a> RoleInput<'a> {
    fn new(spec: &StudySpec, role: String, generator: Option<&'a Generator>) -> Result<Self, Error> {
        match (&spec.data, generator) {
            (DataSpec::Files { dir, sources }, _) => {
                let Some(files) = sources.0.get(&role) else {
                    let known = sources.0.keys().cloned().collect::<Vec<_>>().join(", ");
                    return Err(Error::field("sources", &role, format!("is missing; roles given: {known}")));
                };
                Self::of_files(role, dir, files)
            }
            (DataSpec::Generated { seed, general, specialised, sft }, Some(generator)) => {
                let (domain, count) = match role.as_str() {
                    GENERAL => (Domain::General, *general),
                    "starcoder" => (Domain::Code, *specialised),
                    "math" => (Domain::Math, *specialised),
                    "flan" => (Domain::Instructions, *specialised),
                    "knowledgeqa" => (Domain::Knowledge, *specialised),
                    "dclm" => (Domain::Edited, *specialised),
                    "sft/pycode" => (Domain::Pycode, *sft),
                    "sft/gsm8k" => (Domain::Gsm8k, *sft),
                    "sft/lima" => (Domain::Lima, *sft),
                    "sft/sciq" => (Domain::Sciq, *sft),
                    "probe" => (Domain::Problems, *sft),
                    _ => {
                        let known = "is not generated; generated roles: general, starcoder, math, flan, knowledgeqa, \
                                     dclm, sft/pycode, sft/gsm8k, sft/lima, sft/sciq, probe";
                        return Err(Error::field("role", &role, known));
                    }
                };
                let fingerprint = key(&("generated", 1, seed, domain, count));
                let documents = move || generator.documents(domain).take(count as usize);
                let parts = vec![Input::documents(&role, &fingerprint, documents)];
                Ok(Self { role, fingerprint, parts })
            }
            _ => Err(Error::field(
                "data",
                "stated",
                "holds token counts alone: it can be planned (--print-plan), not run",
            )),
        }
    }

    fn of_files(role: String, dir: &Path, spec: &RoleFiles) -> Result<Self, Error> {
        let input = |source| Error::Input { role: role.clone(), source };
        if !dir.is_dir() {
            return Err(Error::field("data directory", dir.display(), "does not exist"));
        }
        let held_out = spec
            .held_out
            .iter()
            .map(|pattern| SourceFiles::matching([pattern]).paths(dir))
            .collect::<Result<Vec<_>, _>>()
            .map_err(input)?
            .concat();
        let mut parts = Vec::new();
        let mut prints = Vec::new();
        for set in &spec.sets {
            for path in set.paths(dir).map_err(input)? {
                let evaluated = held_out.is_empty() || held_out.contains(&path);
                let part = Input::file(set.clone(), path).map_err(input)?;
                prints.push((part.fingerprint().to_owned(), evaluated));
                parts.push(if evaluated { part } else { part.never_held_out() });
            }
        }
        Ok(Self { fingerprint: key(&prints), role, parts })
    }

    /// Reads everything once; both sides of the split must hold something.
    fn check(&self, permille: u16) -> Result<(), Error> {
        let mut counts = [0u64; 2];
        self.each(permille, &mut |_, held_out| {
            counts[usize::from(held_out)] += 1;
            ControlFlow::Continue(())
        })?;
        if counts.contains(&0) {
            let limit = format!("{} training and {} held-out documents: both must be at least 1", counts[0], counts[1]);
            return Err(Error::field("documents of role", &self.role, format!("gives {limit}")));
        }
        Ok(())
    }

    /// Calls `f(document, held_out)` for each document of either side, until it says to stop.
    fn each(&self, permille: u16, f: &mut dyn FnMut(Document, bool) -> ControlFlow<()>) -> Result<(), Error> {
        for part in &self.parts {
            let mut flow = ControlFlow::Continue(());
            part.read(&mut |document| {
                let held_out = part.may_be_held_out() && is_held_out(&document, permille);
                flow = f(document, held_out);
                flow
            })
            .map_err(|source| Error::Input { role: self.role.clone(), source })?;
            if flow.is_break() {
                break;
            }
        }
        Ok(())
    }
}
