//! A role's documents as two token stores: one to train on, one held out.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use corpus::{
    BuildProgress, BuiltStores, Document, Domain, Generator, Input as Part, SourceFiles, StoreBuilder, TokenStore,
    Tokenizer, is_held_out,
};
use fused_ops::TrainingBackend;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Context, Input, Kind, MakeTokenizer};
use crate::address::{Address, digest};
use crate::spec::{DataSpec, GENERAL, RoleFiles};
use crate::store::Store;
use crate::{Error, StopSignal};

/// Seconds between lines of progress.
const SAID_EVERY: Duration = Duration::from_secs(10);

/// A role's documents, before they are tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RoleSource {
    /// The role.
    pub role: String,
    /// Where they come from.
    pub origin: Origin,
    /// Changes whenever a document may.
    pub fingerprint: String,
}

/// Where documents come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The generator's domain of the role's name.
    Generated {
        /// Its seed.
        seed: u64,
        /// Documents.
        documents: u64,
    },
    /// Files.
    Files {
        /// The folder that they are relative to.
        dir: PathBuf,
        /// Which of them, and how they are read.
        files: RoleFiles,
    },
}

/// Documents that can be read.
pub(crate) struct OpenRole<'a> {
    pub(crate) role: &'a str,
    parts: Vec<Part<'a>>,
}

/// The generator's domain of a role.
fn domain(role: &str) -> Option<Domain> {
    Some(match role {
        GENERAL => Domain::General,
        "starcoder" => Domain::Code,
        "math" => Domain::Math,
        "flan" => Domain::Instructions,
        "knowledgeqa" => Domain::Knowledge,
        "dclm" => Domain::Edited,
        "sft/pycode" => Domain::Pycode,
        "sft/gsm8k" => Domain::Gsm8k,
        "sft/lima" => Domain::Lima,
        "sft/sciq" => Domain::Sciq,
        "probe" => Domain::Problems,
        _ => return None,
    })
}

impl RoleSource {
    /// A role of a study's data.
    ///
    /// # Errors
    /// A role that is not generated or not named, files that cannot be read.
    pub(crate) fn new(data: &DataSpec, role: String) -> Result<Self, Error> {
        match data {
            DataSpec::Files { dir, sources } => {
                let Some(files) = sources.0.get(&role) else {
                    let known = sources.0.keys().cloned().collect::<Vec<_>>().join(", ");
                    return Err(Error::field("sources", &role, format!("is missing; roles given: {known}")));
                };
                if !dir.is_dir() {
                    return Err(Error::field("data directory", dir.display(), "does not exist"));
                }
                let fingerprint = print(&parts_of_files(&role, dir, files)?);
                Ok(Self { role, origin: Origin::Files { dir: dir.clone(), files: files.clone() }, fingerprint })
            }
            DataSpec::Generated { seed, general, specialised, sft } => {
                let Some(domain) = domain(&role) else {
                    let known = "is not generated; generated roles: general, starcoder, math, flan, knowledgeqa, \
                                 dclm, sft/pycode, sft/gsm8k, sft/lima, sft/sciq, probe";
                    return Err(Error::field("role", &role, known));
                };
                let documents = match domain {
                    Domain::General => *general,
                    Domain::Code | Domain::Math | Domain::Instructions | Domain::Knowledge | Domain::Edited => {
                        *specialised
                    }
                    _ => *sft,
                };
                let fingerprint = digest(&("generated", 1, seed, domain, documents));
                Ok(Self { role, origin: Origin::Generated { seed: *seed, documents }, fingerprint })
            }
            DataSpec::Stated { .. } => Err(Error::field(
                "data",
                "stated",
                "holds token counts alone: it can be planned (--print-plan), not run",
            )),
        }
    }

    /// What makes its documents, where they are generated.
    pub(crate) fn generator(&self) -> Option<Generator> {
        match self.origin {
            Origin::Generated { seed, .. } => Some(Generator::new(seed)),
            Origin::Files { .. } => None,
        }
    }

    /// Its documents. `generator`: its [`generator`](Self::generator).
    ///
    /// # Errors
    /// Files that cannot be read, or that changed since.
    pub(crate) fn open<'a>(&'a self, generator: Option<&'a Generator>) -> Result<OpenRole<'a>, Error> {
        let parts = match (&self.origin, generator, domain(&self.role)) {
            (Origin::Files { dir, files }, ..) => {
                let parts = parts_of_files(&self.role, dir, files)?;
                if print(&parts) != self.fingerprint {
                    return Err(Error::field(
                        "files of role",
                        &self.role,
                        "are not those that the job was planned for: they changed since",
                    ));
                }
                parts
            }
            (Origin::Generated { documents, .. }, Some(generator), Some(domain)) => {
                let documents = *documents as usize;
                let read = move || generator.documents(domain).take(documents);
                vec![Part::documents(&self.role, &self.fingerprint, read)]
            }
            _ => return Err(Error::field("role", &self.role, "is not generated")),
        };
        Ok(OpenRole { role: &self.role, parts })
    }
}

fn parts_of_files(role: &str, dir: &Path, files: &RoleFiles) -> Result<Vec<Part<'static>>, Error> {
    let input = |source| Error::Input { role: role.to_owned(), source };
    let held_out = files
        .held_out
        .iter()
        .map(|pattern| SourceFiles::matching([pattern]).paths(dir))
        .collect::<Result<Vec<_>, _>>()
        .map_err(input)?
        .concat();
    let mut parts = Vec::new();
    for set in &files.sets {
        for path in set.paths(dir).map_err(input)? {
            let evaluated = held_out.is_empty() || held_out.contains(&path);
            let part = Part::file(set.clone(), path).map_err(input)?;
            parts.push(if evaluated { part } else { part.never_held_out() });
        }
    }
    Ok(parts)
}

fn print(parts: &[Part<'_>]) -> String {
    digest(&parts.iter().map(|p| (p.fingerprint(), p.may_be_held_out())).collect::<Vec<_>>())
}

impl OpenRole<'_> {
    /// Reads everything once; both sides of the split must hold something.
    ///
    /// # Errors
    /// Whatever is wrong with a file; a side without a document.
    pub(crate) fn check(&self, permille: u16, signal: &StopSignal) -> Result<(), Error> {
        let mut counts = [0u64; 2];
        self.each(permille, &mut |_, held_out| {
            counts[usize::from(held_out)] += 1;
            if signal.received().is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        signal.check()?;
        if counts.contains(&0) {
            let limit = format!("{} training and {} held-out documents: both must be at least 1", counts[0], counts[1]);
            return Err(Error::field("documents of role", self.role, format!("gives {limit}")));
        }
        Ok(())
    }

    /// Calls `f(document, held_out)` for each document of either side, until it says to stop.
    pub(crate) fn each(
        &self,
        permille: u16,
        f: &mut dyn FnMut(Document, bool) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        for part in &self.parts {
            let mut flow = ControlFlow::Continue(());
            part.read(&mut |document| {
                let held_out = part.may_be_held_out() && is_held_out(&document, permille);
                flow = f(document, held_out);
                flow
            })
            .map_err(|source| Error::Input { role: self.role.to_owned(), source })?;
            if flow.is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// Tokenises a role.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tokenise {
    /// Its documents.
    pub source: RoleSource,
    /// The tokenizer's job.
    pub tokenizer: Address,
    /// The tokenizer's fingerprint.
    pub tokenizer_fingerprint: String,
    /// Of 1000 documents, how many are held out, by the hash of their content.
    pub held_out_permille: u16,
    /// Whether documents that come more than once are kept once.
    pub deduplicate: bool,
}

/// A token store: what it holds, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// A digest of the content alone: this is what addresses hold.
    pub digest: String,
    /// The job that made it.
    pub made_by: Address,
    /// Its folder in that job's.
    pub side: String,
    /// Tokens.
    pub tokens: u64,
    /// Documents.
    pub documents: u64,
    /// Bytes of text.
    pub text_bytes: u64,
}

/// A role's two stores.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tokenised {
    /// What is trained on.
    pub train: Content,
    /// What is evaluated on, never trained on.
    pub held_out: Content,
    /// Exact duplicates left out.
    pub duplicates: u64,
    /// Malformed records left out.
    pub skipped: u64,
    /// What was wrong with the first of them.
    pub first_skipped: Option<String>,
}

impl Content {
    fn of(store: &TokenStore, made_by: Address, side: &str) -> Result<Self, Error> {
        let summary = store.inspect();
        Ok(Self {
            digest: store.content_digest()?,
            made_by,
            side: side.to_owned(),
            tokens: summary.tokens,
            documents: summary.documents,
            text_bytes: summary.text_bytes,
        })
    }

    /// Token counts alone, for a plan.
    pub(crate) fn stated(role: &str, tokens: u64) -> Self {
        Self {
            digest: format!("stated-{role}-{tokens}"),
            made_by: Address::named("stated", "data"),
            side: role.to_owned(),
            tokens,
            documents: 0,
            text_bytes: 0,
        }
    }

    /// The store, its checksums compared once by each process.
    ///
    /// # Errors
    /// A store that is missing or damaged.
    pub(crate) fn open(&self, store: &Store) -> Result<Arc<TokenStore>, Error> {
        let path = store.folder(&self.made_by).join(&self.side);
        let tokens = TokenStore::open(&path)?;
        store.once(&path, || Ok(tokens.verify()?))?;
        Ok(Arc::new(tokens))
    }

    /// Whole sequences of a length.
    pub(crate) fn sequences(&self, time: usize) -> u64 {
        self.tokens.saturating_sub(1) / time.max(1) as u64
    }
}

impl Kind for Tokenise {
    const NAME: &'static str = "data";
    const VERSION: u32 = 1;
    type Output = Tokenised;

    fn address(&self) -> Address {
        let identity = json!({
            "role": self.source.role,
            "documents": self.source.fingerprint,
            "tokenizer": self.tokenizer_fingerprint,
            "held_out": self.held_out_permille,
            "deduplicate": self.deduplicate,
        });
        Self::identified_by(&identity)
    }

    fn label(&self) -> String {
        format!("tokenising {}", self.source.role)
    }

    fn inputs(&self) -> Vec<Input> {
        vec![Input::files(&self.tokenizer)]
    }

    fn run<AB: TrainingBackend>(&self, cx: &mut Context<'_, AB>) -> Result<Self::Output, Error> {
        let tokenizer = Tokenizer::from_file(&MakeTokenizer::file(cx.store, &self.tokenizer))?;
        let generator = self.source.generator();
        let open = self.source.open(generator.as_ref())?;
        let builder = StoreBuilder::new(&tokenizer, &self.source.role)
            .held_out_permille(self.held_out_permille)
            .deduplicate(self.deduplicate);
        let mut said = Instant::now();
        let progress = &*cx.progress;
        let report = builder.build(&open.parts, cx.folder, &mut |at| {
            if said.elapsed() > SAID_EVERY {
                said = Instant::now();
                progress.note(&line(&self.source.role, at));
            }
        })?;
        let BuiltStores { train, held_out } = BuiltStores::open(cx.folder)?;
        train.verify()?;
        held_out.verify()?;
        Ok(Tokenised {
            train: Content::of(&train, self.address(), "train")?,
            held_out: Content::of(&held_out, self.address(), "held-out")?,
            duplicates: report.duplicates,
            skipped: report.skipped,
            first_skipped: report.first_skipped,
        })
    }
}

fn line(role: &str, progress: &BuildProgress<'_>) -> String {
    format!(
        "tokenising {role}: {} of {} inputs, {} documents, {:.0} documents/s, {:.1} MB/s",
        progress.inputs_done,
        progress.inputs,
        progress.documents,
        progress.documents_per_second(),
        progress.megabytes_per_second()
    )
}
