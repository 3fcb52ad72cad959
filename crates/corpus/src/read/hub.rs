//! Data sets of the Hugging Face hub by name: from the local cache, or, with feature `hub`, fetched into it.

use std::path::{Path, PathBuf};

use super::find::MATCHING;
use super::{ReadError, io};

/// Files of a data set: `OWNER/NAME[@REVISION]/PATTERN`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubPath {
    /// `OWNER/NAME`.
    pub dataset: String,
    /// A branch, tag or commit.
    pub revision: String,
    /// The files, by pattern.
    pub pattern: glob::Pattern,
}

impl HubPath {
    /// What follows `hf://`; with or without `datasets/` in front.
    ///
    /// # Errors
    /// No owner, name or pattern, a broken pattern.
    pub fn parse(text: &str) -> Result<Self, ReadError> {
        let error = |reason: String| ReadError::Pattern { pattern: format!("hf://{text}"), reason };
        let parts = text.strip_prefix("datasets/").unwrap_or(text).splitn(3, '/').collect::<Vec<_>>();
        let [owner, name, pattern] = parts.as_slice() else {
            return Err(error("must be hf://OWNER/NAME[@REVISION]/PATTERN".into()));
        };
        let (name, revision) = name.split_once('@').unwrap_or((name, "main"));
        let safe = |s: &str| !s.is_empty() && !s.starts_with('.') && !s.contains(['\\', ':']);
        if !safe(owner) || !safe(name) || !safe(revision) || pattern.is_empty() {
            return Err(error("must be hf://OWNER/NAME[@REVISION]/PATTERN".into()));
        }
        // What ends with ** means files, not only the folders.
        let ended = if pattern.ends_with("**") { format!("{pattern}/*") } else { (*pattern).to_owned() };
        let pattern = glob::Pattern::new(&ended).map_err(|e| error(e.to_string()))?;
        Ok(Self { dataset: format!("{owner}/{name}"), revision: revision.to_owned(), pattern })
    }

    /// Its local files, sorted, from the cache of Hugging Face's own libraries (HF_HUB_CACHE, else HF_HOME/hub, else
    /// ~/.cache/huggingface/hub). With feature `hub` those that are missing are fetched first, unless HF_HUB_OFFLINE is
    /// set.
    ///
    /// # Errors
    /// A data set that is not in the cache and cannot be fetched, or no file that matches.
    pub fn resolve(&self) -> Result<Vec<PathBuf>, ReadError> {
        let cache =
            cache_dir().ok_or_else(|| self.error("no home directory; set HF_HUB_CACHE to the cache's folder"))?;
        #[cfg(feature = "hub")]
        if !offline() {
            let endpoint = std::env::var("HF_ENDPOINT").ok().filter(|e| !e.is_empty());
            return self.fetch(&cache, endpoint.as_deref(), token().as_deref());
        }
        self.cached(&cache)
    }

    /// Its files in a cache: `datasets--OWNER--NAME/refs/REVISION` holds a commit, `snapshots/COMMIT` the files.
    ///
    /// # Errors
    /// A data set or revision that is not there, or no file that matches.
    pub fn cached(&self, cache: &Path) -> Result<Vec<PathBuf>, ReadError> {
        let snapshot = snapshot(cache, "datasets", &self.dataset, &self.revision);
        if !snapshot.is_dir() {
            return Err(self.error(format!("is not in the cache, {}; {}", cache.display(), remedy())));
        }
        let mut found = Vec::new();
        walk(&snapshot, &mut found)?;
        found.retain(|file| {
            let name = file.strip_prefix(&snapshot).unwrap_or(file);
            self.pattern.matches_path_with(name, MATCHING) && file.is_file()
        });
        if found.is_empty() {
            return Err(self.error(format!("no file in {} matches {}", snapshot.display(), self.pattern)));
        }
        found.sort();
        Ok(found)
    }

    fn error(&self, reason: impl Into<String>) -> ReadError {
        ReadError::Hub { dataset: format!("{}@{}", self.dataset, self.revision), reason: reason.into() }
    }
}

/// A model of the Hugging Face hub: `OWNER/NAME[@REVISION]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubModel {
    /// `OWNER/NAME`.
    pub model: String,
    /// A branch, tag or commit.
    pub revision: String,
}

impl HubModel {
    /// What follows `hf://`.
    ///
    /// # Errors
    /// No owner or name, or more than these.
    pub fn parse(text: &str) -> Result<Self, ReadError> {
        let (name, revision) = text.split_once('@').unwrap_or((text, "main"));
        let safe = |s: &str| !s.is_empty() && !s.starts_with('.') && !s.contains(['\\', ':', '/']);
        match name.split_once('/') {
            Some((owner, model)) if safe(owner) && safe(model) && safe(revision) => {
                Ok(Self { model: name.to_owned(), revision: revision.to_owned() })
            }
            _ => {
                let reason = "must be hf://OWNER/NAME[@REVISION]".to_owned();
                Err(ReadError::Pattern { pattern: format!("hf://{text}"), reason })
            }
        }
    }

    /// Its folder in the cache of Hugging Face's own libraries, as [`HubPath::resolve`] finds it. With feature `hub` its
    /// configuration, tokenizer and safetensors are fetched first, unless HF_HUB_OFFLINE is set.
    ///
    /// # Errors
    /// A model that is not in the cache and cannot be fetched.
    pub fn resolve(&self) -> Result<PathBuf, ReadError> {
        let cache =
            cache_dir().ok_or_else(|| self.error("no home directory; set HF_HUB_CACHE to the cache's folder"))?;
        #[cfg(feature = "hub")]
        if !offline() {
            let endpoint = std::env::var("HF_ENDPOINT").ok().filter(|e| !e.is_empty());
            return self.fetch(&cache, endpoint.as_deref(), token().as_deref());
        }
        self.cached(&cache)
    }

    /// Its folder in a cache: `models--OWNER--NAME/refs/REVISION` holds a commit, `snapshots/COMMIT` the files.
    ///
    /// # Errors
    /// A model or revision that is not there.
    pub fn cached(&self, cache: &Path) -> Result<PathBuf, ReadError> {
        let snapshot = snapshot(cache, "models", &self.model, &self.revision);
        if snapshot.is_dir() {
            return Ok(snapshot);
        }
        Err(self.error(format!("is not in the cache, {}; {}", cache.display(), remedy())))
    }

    fn error(&self, reason: impl Into<String>) -> ReadError {
        ReadError::Hub { dataset: format!("{}@{}", self.model, self.revision), reason: reason.into() }
    }
}

/// The folder of a revision in a cache: a branch or tag is a file that holds its commit.
fn snapshot(cache: &Path, kind: &str, name: &str, revision: &str) -> PathBuf {
    let repository = cache.join(format!("{kind}--{}", name.replace('/', "--")));
    let commit = std::fs::read_to_string(repository.join("refs").join(revision));
    let commit = commit.map_or_else(|_| revision.to_owned(), |commit| commit.trim().to_owned());
    repository.join("snapshots").join(commit)
}

fn remedy() -> &'static str {
    if cfg!(feature = "hub") { "HF_HUB_OFFLINE is set" } else { "fetching it needs feature hub" }
}

/// The token that opens gated data sets: HF_TOKEN, as Hugging Face's own libraries take it; else what `hf auth login` left.
#[cfg(feature = "hub")]
fn token() -> Option<String> {
    let given = std::env::var("HF_TOKEN").ok();
    given.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty())
}

#[cfg(feature = "hub")]
fn api(
    cache: &Path,
    endpoint: Option<&str>,
    token: Option<&str>,
) -> Result<hf_hub::api::sync::Api, hf_hub::api::sync::ApiError> {
    let builder = hf_hub::api::sync::ApiBuilder::from_env();
    let mut builder = builder.with_cache_dir(cache.to_owned()).with_progress(false).with_retries(3);
    if let Some(endpoint) = endpoint {
        builder = builder.with_endpoint(endpoint.to_owned());
    }
    if let Some(token) = token {
        builder = builder.with_token(Some(token.to_owned()));
    }
    builder.build()
}

#[cfg(feature = "hub")]
impl HubModel {
    /// Fetches its configuration, tokenizer and safetensors into a cache, those that are not there, and gives their folder.
    ///
    /// # Errors
    /// A hub that cannot be reached, a model that is not there or not open.
    pub fn fetch(&self, cache: &Path, endpoint: Option<&str>, token: Option<&str>) -> Result<PathBuf, ReadError> {
        let error = |e: hf_hub::api::sync::ApiError| self.error(e.to_string());
        let repo = hf_hub::Repo::with_revision(self.model.clone(), hf_hub::RepoType::Model, self.revision.clone());
        let repository = api(cache, endpoint, token).map_err(error)?.repo(repo);
        let wanted = |name: &str| {
            let of_model = ["config.json", "tokenizer.json", "model.safetensors.index.json"].contains(&name);
            of_model || (name.ends_with(".safetensors") && !name.contains('/'))
        };
        let mut folder = None;
        for file in repository.info().map_err(error)?.siblings {
            if wanted(&file.rfilename) {
                let path = repository.get(&file.rfilename).map_err(error)?;
                folder = path.parent().map(Path::to_owned);
            }
        }
        folder.ok_or_else(|| self.error("holds no config.json"))
    }
}

/// As Hugging Face's own libraries: HF_HUB_CACHE, else HF_HOME/hub, else ~/.cache/huggingface/hub.
fn cache_dir() -> Option<PathBuf> {
    let var = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    var("HF_HUB_CACHE")
        .or_else(|| var("HF_HOME").map(|home| home.join("hub")))
        .or_else(|| var("HOME").map(|home| home.join(".cache/huggingface/hub")))
}

#[cfg(feature = "hub")]
fn offline() -> bool {
    std::env::var("HF_HUB_OFFLINE").is_ok_and(|v| matches!(v.to_lowercase().as_str(), "1" | "true" | "on" | "yes"))
}

/// Files, which are links into the cache's blobs, in a folder and those below.
fn walk(dir: &Path, found: &mut Vec<PathBuf>) -> Result<(), ReadError> {
    for entry in std::fs::read_dir(dir).map_err(io(dir))? {
        let entry = entry.map_err(io(dir))?;
        if entry.file_type().map_err(io(dir))?.is_dir() {
            walk(&entry.path(), found)?;
        } else {
            found.push(entry.path());
        }
    }
    Ok(())
}

#[cfg(feature = "hub")]
impl HubPath {
    /// Lists the data set's files, fetches into a cache those that match and are not there, and gives their paths. `token`
    /// opens gated data sets; where absent it is the one that `hf auth login` left.
    ///
    /// # Errors
    /// A hub that cannot be reached, a data set that is not there or not open, no file that matches.
    pub fn fetch(&self, cache: &Path, endpoint: Option<&str>, token: Option<&str>) -> Result<Vec<PathBuf>, ReadError> {
        use hf_hub::api::sync::ApiError;
        use hf_hub::{Repo, RepoType};

        let error = |e: ApiError| self.error(e.to_string());
        let api = api(cache, endpoint, token).map_err(error)?;
        let repository = api.repo(Repo::with_revision(self.dataset.clone(), RepoType::Dataset, self.revision.clone()));
        let names = repository.info().map_err(error)?.siblings.into_iter().map(|s| s.rfilename);
        let mut names: Vec<String> = names.filter(|name| self.pattern.matches_with(name, MATCHING)).collect();
        names.sort();
        if names.is_empty() {
            return Err(self.error(format!("no file matches {}", self.pattern)));
        }
        names.iter().map(|name| repository.get(name).map_err(error)).collect()
    }
}
