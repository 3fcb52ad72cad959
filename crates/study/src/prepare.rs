//! From the study's data to token stores. Everything is read and checked before the first file is written.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use corpus::{
    Document, Domain, Generator, SourceFiles, TokenStore, Tokenizer, fingerprint_file, is_held_out, train_bpe,
};
use metrics_proximity::Counts;

use crate::files::{key, remove_leftovers};
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
    /// The id that ends a document.
    pub document_end: u32,
    /// Its vocabulary.
    pub vocab_size: usize,
    /// Stores by role.
    pub roles: BTreeMap<String, RoleStores>,
    /// Entropy of the held-out general text's token distribution, in nats: the loss without any context.
    pub unigram_entropy: f64,
}

/// A role's documents before they are tokens: a recipe that can be read more than once, and its fingerprint.
struct Input<'a> {
    role: String,
    fingerprint: String,
    files: Vec<(SourceFiles, PathBuf, bool)>,
    generated: Option<(&'a Generator, Domain, u64)>,
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
        .map(|role| Input::new(spec, role, generator.as_ref()))
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
        .map(|input| store.join("data").join(key(&(&input.fingerprint, &source, spec.held_out_permille))))
        .collect();
    let complete = addresses.iter().all(|a| a.join("train.tokens").exists() && a.join("held-out.tokens").exists());
    if !complete {
        for input in &inputs {
            note(&format!("reading {}", input.role));
            input.check(spec.held_out_permille)?;
        }
        let tokenizer = match given {
            Some(tokenizer) => tokenizer,
            None => trained(spec, &inputs, &bpe_file(store, &source), note)?,
        };
        check_vocabulary(spec, &tokenizer)?;
        for (input, address) in inputs.iter().zip(&addresses) {
            note(&format!("tokenising {}", input.role));
            for (file, held_out) in [("train.tokens", false), ("held-out.tokens", true)] {
                let path = address.join(file);
                if !path.exists() {
                    let documents = input.documents(held_out, spec.held_out_permille)?;
                    tokenizer.write_store(&path, &input.role, documents.into_iter())?;
                }
            }
            remove_leftovers(address)?;
        }
    }
    let tokenizer_file = match &spec.tokenizer {
        TokenizerSpec::File { path } => path.clone(),
        TokenizerSpec::Bpe { .. } => bpe_file(store, &source),
    };
    open(spec, &inputs, &addresses, tokenizer_file)
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
    inputs: &[Input<'_>],
    addresses: &[PathBuf],
    tokenizer_file: PathBuf,
) -> Result<Prepared, Error> {
    let mut roles = BTreeMap::new();
    for (input, address) in inputs.iter().zip(addresses) {
        let stores = RoleStores {
            train: Arc::new(TokenStore::open(&address.join("train.tokens"))?),
            held_out: Arc::new(TokenStore::open(&address.join("held-out.tokens"))?),
        };
        stores.train.verify()?;
        stores.held_out.verify()?;
        roles.insert(input.role.clone(), stores);
    }
    let general = &roles[GENERAL];
    let counts = Counts::of_store(spec.model.vocab_size, &general.held_out)?;
    // Every document ends with it.
    let mut document_end = [0];
    general.train.read(general.train.token_count().saturating_sub(1), &mut document_end)?;
    Ok(Prepared {
        tokenizer: general.train.tokenizer().to_owned(),
        tokenizer_file,
        document_end: document_end[0],
        vocab_size: spec.model.vocab_size,
        unigram_entropy: counts.entropy(),
        roles,
    })
}

/// The BPE of the study: read where it is stored, else trained and stored.
fn trained(
    spec: &StudySpec,
    inputs: &[Input<'_>],
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
        for document in input.documents(false, spec.held_out_permille)? {
            if bytes > share {
                break;
            }
            let text = document.prompt + &document.text;
            bytes += text.len() as u64;
            texts.push(text);
        }
    }
    let tokenizer = train_bpe(texts.into_iter(), *vocab_size)?;
    tokenizer.save(path)?;
    Ok(tokenizer)
}

impl<'a> Input<'a> {
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
                    _ => {
                        let known = "is not generated; generated roles: general, starcoder, math, flan, knowledgeqa, \
                                     dclm, sft/pycode, sft/gsm8k, sft/lima, sft/sciq";
                        return Err(Error::field("role", &role, known));
                    }
                };
                let fingerprint = key(&("generated", 1, seed, domain, count));
                Ok(Self { role, fingerprint, files: Vec::new(), generated: Some((generator, domain, count)) })
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
            .map(|p| SourceFiles { files: vec![p.clone()], ..SourceFiles::folder("") }.paths(dir))
            .collect::<Result<Vec<_>, _>>()
            .map_err(input)?
            .concat();
        let mut files = Vec::new();
        let mut prints = Vec::new();
        for set in &spec.sets {
            for path in set.paths(dir).map_err(input)? {
                let evaluated = held_out.is_empty() || held_out.contains(&path);
                let name = path.strip_prefix(dir).unwrap_or(&path).display().to_string();
                let content = fingerprint_file(&path).map_err(input)?;
                prints.push((name, content, evaluated, set.format, set.header, set.template.clone()));
                files.push((set.clone(), path, evaluated));
            }
        }
        Ok(Self { fingerprint: key(&prints), role, files, generated: None })
    }

    /// Reads everything once; both sides of the split must hold something.
    fn check(&self, permille: u16) -> Result<(), Error> {
        let mut counts = [0u64; 2];
        self.each(permille, &mut |_, held_out| counts[usize::from(held_out)] += 1)?;
        if counts.contains(&0) {
            let limit = format!("{} training and {} held-out documents: both must be at least 1", counts[0], counts[1]);
            return Err(Error::field("documents of role", &self.role, format!("gives {limit}")));
        }
        Ok(())
    }

    fn documents(&self, held_out: bool, permille: u16) -> Result<Vec<Document>, Error> {
        let mut out = Vec::new();
        self.each(permille, &mut |document, side| {
            if side == held_out {
                out.push(document);
            }
        })?;
        Ok(out)
    }

    /// Calls `f(document, held_out)` for each document of either side.
    fn each(&self, permille: u16, f: &mut dyn FnMut(Document, bool)) -> Result<(), Error> {
        if let Some((generator, domain, count)) = self.generated {
            for document in generator.documents(domain).take(count as usize) {
                let held_out = is_held_out(&document, permille);
                f(document, held_out);
            }
        }
        for (set, path, evaluated) in &self.files {
            set.read(path, &mut |document| {
                let held_out = *evaluated && is_held_out(&document, permille);
                f(document, held_out);
            })
            .map_err(|source| Error::Input { role: self.role.clone(), source })?;
        }
        Ok(())
    }
}
