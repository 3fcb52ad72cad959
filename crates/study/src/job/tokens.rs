//! A role's documents as a token store: all of them, whatever is held out of them later.
//!
//! Where there are many files, several jobs tokenise parts of them, and one puts their shards together: the store holds
//! the same, however it was made.

use std::sync::Arc;
use std::time::{Duration, Instant};

use corpus::{BuildProgress, BuildReport, BuiltStores, StoreBuilder, TokenStore, Tokenizer};
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
}

/// The store's folder in the job's.
pub(crate) const TOKENS: &str = "train";

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
    /// Malformed records left out.
    pub(crate) skipped: u64,
    /// What was wrong with the first of them.
    pub(crate) first_skipped: Option<String>,
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
    const VERSION: u32 = 2;
    type Output = Tokenised;

    fn address(&self) -> Address {
        let identity = json!({
            "role": self.source.role,
            "documents": self.source.fingerprint,
            "tokenizer": self.tokenizer_fingerprint,
        });
        Self::identified_by(&identity)
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
        let tokenizer = Tokenizer::from_file(&MakeTokenizer::file(cx.store, &self.tokenizer))?;
        let builder = self.builder(&tokenizer);
        let mut first_skipped = None;
        for part in self.parts() {
            let address = part.address();
            builder.adopt(&cx.store.folder(&address), part.range().0, cx.folder)?;
            first_skipped = first_skipped.or(cx.store.result::<TokenisePart>(&address)?.and_then(|p| p.first_skipped));
        }
        let report = self.build(&builder, None, cx)?;
        let store = BuiltStores::open(cx.folder)?.train;
        store.verify()?;
        if store.document_count() == 0 {
            return Err(Error::field("documents of role", &self.source.role, "must be at least 1: there are none"));
        }
        remember(cx)?;
        Ok(Tokenised {
            documents: store.document_count(),
            tokens: store.token_count(),
            skipped: report.skipped,
            first_skipped: first_skipped.or(report.first_skipped),
        })
    }
}

impl Tokenise {
    /// The jobs that share the work, where there is much of it.
    pub(crate) fn parts(&self) -> impl Iterator<Item = TokenisePart> + '_ {
        (0..self.source.parts.len()).map(|number| TokenisePart { whole: self.clone(), number })
    }

    fn builder<'a>(&self, tokenizer: &'a Tokenizer) -> StoreBuilder<'a> {
        StoreBuilder::new(tokenizer, &self.source.role)
    }

    /// Makes the stores of a part, or of the whole, in the job's folder.
    fn build<AB: TrainingBackend>(
        &self,
        builder: &StoreBuilder<'_>,
        part: Option<&SourcePart>,
        cx: &Context<'_, AB>,
    ) -> Result<BuildReport, Error> {
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
        let builder = builder.clone().stop_when(&stop);
        let built = builder.build(inputs, cx.folder, &mut |at| tell(report, &self.source.role, bytes, at, &mut said));
        match built {
            Err(corpus::TokenizeError::Stopped) => {
                Err(Error::Stopped { signal: report.signal().received().unwrap_or(0) })
            }
            Err(corpus::TokenizeError::Read(source)) => Err(Error::Input { role: self.source.role.clone(), source }),
            other => Ok(other?),
        }
    }
}

/// Tokenises a part of a role's files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct TokenisePart {
    /// The whole.
    pub(crate) whole: Tokenise,
    /// Which of its source's parts.
    pub(crate) number: usize,
}

/// A part of a role, as stores in the job's folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PartTokenised {
    /// Documents.
    pub(crate) documents: u64,
    /// What was wrong with the first malformed record.
    pub(crate) first_skipped: Option<String>,
}

impl TokenisePart {
    fn part(&self) -> Option<&SourcePart> {
        self.whole.source.parts.get(self.number)
    }

    fn range(&self) -> (usize, usize) {
        self.part().map_or((0, 0), |part| part.files)
    }
}

impl Kind for TokenisePart {
    const NAME: &'static str = "part";
    const VERSION: u32 = 2;
    type Output = PartTokenised;

    fn address(&self) -> Address {
        let whole = &self.whole;
        let identity = json!({
            "role": whole.source.role,
            "documents": self.part().map(|part| &part.fingerprint),
            "tokenizer": whole.tokenizer_fingerprint,
        });
        Self::identified_by(&identity)
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
        let tokenizer = Tokenizer::from_file(&MakeTokenizer::file(cx.store, &self.whole.tokenizer))?;
        let builder = self.whole.builder(&tokenizer);
        let report = self.whole.build(&builder, self.part(), cx)?;
        Ok(PartTokenised { documents: report.documents[0], first_skipped: report.first_skipped })
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
