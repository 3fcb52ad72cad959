//! A role's documents as a token store: all of them, whatever is held out of them later.
//!
//! Where there are many files, several jobs tokenise parts of them, and one puts their shards together: the store holds
//! the same, however it was made.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use corpus::{BuildProgress, BuildReport, ReadReport, SpecialTokens, StoreBuilder, TextInput, TokenStore, Tokenizer};
use data_mixer::{Sequences, ShuffledDocuments, stream_key};
use fused_ops::TrainingBackend;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::source::{RoleSource, SourcePart};
use super::{Context, Cost, Input, Job, Kind, MakeTokenizer};
use crate::Error;
use crate::address::Address;
use crate::engine::Report;
use crate::fingerprints::Fingerprints;
use crate::store::Store;

/// Time between lines of progress.
const SAID_EVERY: Duration = Duration::from_secs(10);

/// Tokenises a role.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Tokenise {
    /// Its documents.
    pub(crate) source: RoleSource,
    /// The tokenizer's job.
    pub(crate) tokenizer: Address,
    /// The tokenizer's fingerprint.
    pub(crate) tokenizer_fingerprint: String,
    /// What special tokens in the texts are.
    #[serde(default)]
    pub(crate) special_tokens: SpecialTokens,
}

/// The folder of the whole store in the job's.
pub(crate) const TOKENS: &str = "whole";

/// A token store: what it holds, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Content {
    /// A digest of the content alone: this is what addresses hold.
    pub(crate) digest: String,
    /// The job that made it.
    pub(crate) made_by: Address,
    /// Its folder in that job's.
    pub(crate) side: String,
    /// The job whose store it is a selection of.
    pub(crate) whole: Address,
    /// Tokens.
    pub(crate) tokens: u64,
    /// Documents.
    pub(crate) documents: u64,
    /// Bytes of text.
    pub(crate) text_bytes: u64,
}

/// A role's store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tokenised {
    /// Documents.
    pub(crate) documents: u64,
    /// Tokens.
    pub(crate) tokens: u64,
    /// What reading its files met: what was left out, and why.
    pub(crate) read: ReadReport,
    /// Files without any document.
    pub(crate) empty: Vec<String>,
}

impl Content {
    pub(super) fn of(store: &TokenStore, made_by: Address, side: &str, whole: &Address) -> Result<Self, Error> {
        let summary = store.inspect();
        Ok(Self {
            digest: store.content_digest()?,
            made_by,
            side: side.to_owned(),
            whole: whole.clone(),
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
            whole: Address::named("stated", "data"),
            tokens,
            documents: 0,
            text_bytes: 0,
        }
    }

    /// The store. Its headers and sizes are checked. Its checksums are where its files are not those that were read
    /// before (path, size, times, inode), such as those of a copied store; all of them are on demand
    /// ([`verify`](crate::verify())).
    ///
    /// # Errors
    /// A store that is missing or damaged.
    pub(crate) fn open(&self, store: &Store) -> Result<Arc<TokenStore>, Error> {
        let path = store.folder(&self.made_by).join(&self.side);
        store.once(&path, || store.check_unread(&self.made_by, &format!("{}/", self.side)))?;
        open_whole(store, &self.whole)?;
        Ok(Arc::new(TokenStore::open(&path)?))
    }

    /// Its sequences; `shuffled`: of its documents in the order of a seed, the name decides too.
    ///
    /// # Errors
    /// A store that is missing or damaged.
    pub(crate) fn sequences_of(
        &self,
        store: &Store,
        name: &str,
        time: usize,
        shuffled: Option<u64>,
    ) -> Result<Sequences, Error> {
        let tokens = self.open(store)?;
        Ok(match shuffled {
            None => Sequences::new(tokens, time)?,
            Some(seed) => Sequences::new(Arc::new(ShuffledDocuments::new(tokens, stream_key(seed, name, 0))?), time)?,
        })
    }

    /// What a job needs that reads it.
    pub(crate) fn inputs(&self) -> [Input; 2] {
        [Input::files(&self.made_by), Input::files(&self.whole)]
    }

    /// Whole sequences of a length.
    pub(crate) fn sequences(&self, time: usize) -> u64 {
        self.tokens.saturating_sub(1) / time.max(1) as u64
    }
}

/// The store of a tokenising job, its files checked where they are not known to be as they were.
pub(super) fn open_whole(store: &Store, job: &Address) -> Result<TokenStore, Error> {
    let path = store.folder(job).join(TOKENS);
    store.once(&path, || store.check_unread(job, &format!("{TOKENS}/")))?;
    Ok(TokenStore::open(&path)?)
}

impl Kind for Tokenise {
    const NAME: &'static str = "data";
    const VERSION: u32 = 3;
    type Output = Tokenised;

    fn address(&self) -> Address {
        Self::identified_by(&self.identity(&self.source.fingerprint))
    }

    fn label(&self) -> String {
        format!("tokenising {}", self.source.role)
    }

    fn inputs(&self) -> Vec<Input> {
        let parts = self.parts().map(|part| Input::files(&part.address()));
        [Input::files(&self.tokenizer)].into_iter().chain(parts).collect()
    }

    fn describes(&self) -> Vec<Job> {
        self.parts().map(Job::from).collect()
    }

    fn cost(&self) -> Cost {
        // Putting shards together is reading them.
        let faster = if self.source.parts.is_empty() { 1.0 } else { 0.02 };
        Cost::of("tokenise", self.source.bytes as f64 * faster)
    }

    fn run<AB: TrainingBackend>(&self, cx: &mut Context<'_, AB>) -> Result<Self::Output, Error> {
        let report = self.build(None, cx)?;
        let store = TokenStore::open(&cx.folder.join(TOKENS))?;
        store.verify()?;
        if store.document_count() == 0 {
            return Err(Error::field("documents of role", &self.source.role, "must be at least 1: there are none"));
        }
        remember(cx)?;
        Ok(Tokenised {
            documents: store.document_count(),
            tokens: store.token_count(),
            read: report.read,
            empty: report.empty,
        })
    }
}

impl Tokenise {
    /// The jobs that share the work, where there is much of it.
    pub(crate) fn parts(&self) -> impl Iterator<Item = TokenisePart> + '_ {
        (0..self.source.parts.len()).map(|number| TokenisePart { whole: self.clone(), number })
    }

    /// What decides the store, or a part of it.
    fn identity(&self, documents: &str) -> serde_json::Value {
        json!({
            "role": self.source.role,
            "documents": documents,
            "tokenizer": self.tokenizer_fingerprint,
            "special_tokens": self.special_tokens,
        })
    }

    /// Makes the store of a part, or of the whole, in the job's folder. What other jobs have tokenised is taken over: parts of
    /// this one, and files that were tokenised before some others were added or changed.
    fn build<AB: TrainingBackend>(
        &self,
        part: Option<&SourcePart>,
        cx: &Context<'_, AB>,
    ) -> Result<BuildReport, Error> {
        let tokenizer = Tokenizer::from_file(&MakeTokenizer::file(cx.store, &self.tokenizer))?;
        let tokenizer = tokenizer.with_special_tokens(self.special_tokens);
        let generator = self.source.generator();
        let mut known = Fingerprints::read(cx.store.root())?.until(cx.report.signal());
        let open = self.source.open(generator.as_ref(), &mut known)?;
        let inputs = match part {
            Some(part) => open
                .inputs
                .get(part.files.0..part.files.1)
                .ok_or_else(|| Error::field("part of role", &self.source.role, "names files that are not there"))?,
            None => &open.inputs,
        };
        let bytes = part.map_or(self.source.bytes, |part| part.bytes).max(1);
        let mut said = Instant::now();
        let report = cx.report;
        let stop = || report.signal().received().is_some();
        let builder = StoreBuilder::new(&tokenizer, &self.source.role).stop_when(&stop);
        let dir = cx.folder.join(TOKENS);
        adopt(&builder, inputs, &dir, cx.store)?;
        let built = builder.build(inputs, &dir, &mut |at| tell(report, &self.source.role, bytes, at, &mut said));
        match built {
            Err(corpus::TokenizeError::Stopped) => {
                Err(Error::Stopped { signal: report.signal().received().unwrap_or(0) })
            }
            Err(corpus::TokenizeError::Read(source)) => Err(Error::Input { role: self.source.role.clone(), source }),
            other => Ok(other?),
        }
    }
}

/// Takes over what other jobs of the store have tokenised of these inputs.
fn adopt(builder: &StoreBuilder<'_>, inputs: &[TextInput<'_>], dir: &Path, store: &Store) -> Result<(), Error> {
    for kind in [Tokenise::NAME, TokenisePart::NAME] {
        for name in store.names(kind)? {
            let other = store.root().join(kind).join(name).join(TOKENS);
            if other != dir && other.is_dir() {
                builder.adopt(&other, inputs, dir)?;
            }
        }
    }
    Ok(())
}

/// Tokenises a part of a role's files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct TokenisePart {
    /// The whole.
    pub(crate) whole: Tokenise,
    /// Which of its source's parts.
    pub(crate) number: usize,
}

/// A part of a role, as a store in the job's folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PartTokenised {
    /// Documents.
    pub(crate) documents: u64,
}

impl TokenisePart {
    fn part(&self) -> Option<&SourcePart> {
        self.whole.source.parts.get(self.number)
    }
}

impl Kind for TokenisePart {
    const NAME: &'static str = "part";
    const VERSION: u32 = 3;
    type Output = PartTokenised;

    fn address(&self) -> Address {
        let documents = self.part().map_or("", |part| part.fingerprint.as_str());
        Self::identified_by(&self.whole.identity(documents))
    }

    fn label(&self) -> String {
        format!("tokenising {}, part {} of {}", self.whole.source.role, self.number + 1, self.whole.source.parts.len())
    }

    fn inputs(&self) -> Vec<Input> {
        vec![Input::files(&self.whole.tokenizer)]
    }

    fn cost(&self) -> Cost {
        Cost::of("tokenise", self.part().map_or(0.0, |part| part.bytes as f64))
    }

    fn run<AB: TrainingBackend>(&self, cx: &mut Context<'_, AB>) -> Result<Self::Output, Error> {
        Ok(PartTokenised { documents: self.whole.build(self.part(), cx)?.documents })
    }
}

/// The files are as they were written: nobody need read them to know.
fn remember<AB: TrainingBackend>(cx: &Context<'_, AB>) -> Result<(), Error> {
    let mut known = Fingerprints::read(cx.store.root())?;
    known.of(&cx.store.files_below(cx.folder)?)?;
    known.write()
}

/// How far a building is: often for progress, a line now and then.
fn tell(report: &Report, role: &str, bytes: u64, at: &BuildProgress<'_>, said: &mut Instant) {
    report.advanced((at.bytes as f64 / bytes as f64).min(1.0), || line(role, at));
    if said.elapsed() > SAID_EVERY {
        *said = Instant::now();
        report.note(&line(role, at));
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
