//! Tokenising and counting, as the scripts of other software do them.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use corpus::{Document, Piece, SourceFiles, StoreBuilder, Template, TextInput, TokenStore, Tokenizer};
use memmap2::Mmap;
use metrics_proximity::{Counts, Distribution, SimilarityOptions, similarity};
use serde_json::{Value, json};

use super::{median, peak_memory_mib};
use crate::Error;

/// A file to tokenise.
#[derive(Debug, Clone)]
pub struct Tokenize {
    /// A `tokenizer.json`.
    pub tokenizer: PathBuf,
    /// The file.
    pub file: PathBuf,
    /// The field that holds the text.
    pub field: String,
    /// Documents, at most; all of them if none is given.
    pub limit: Option<usize>,
    /// How often it is done.
    pub repeat: usize,
    /// Only the encoding of texts in memory, by the `tokenizers` crate itself: what is to be compared with.
    pub encode_only: bool,
}

impl Tokenize {
    /// Reads, tokenises and stores the file, several times; the result has the fields of the script's JSON line.
    ///
    /// # Errors
    /// Files that cannot be read, a store that cannot be written.
    pub fn run(&self) -> Result<Value, Error> {
        let field = self.field.replace('{', "{{").replace('}', "}}");
        let template = Template::parse("", &format!("{{{field}}}")).map_err(|e| self.content(e))?;
        let files = SourceFiles { template: Some(template), ..SourceFiles::matching(["."]) };
        let tokenizer = Tokenizer::from_file(&self.tokenizer)?;
        let mut seconds = Vec::new();
        let (mut documents, mut bytes, mut tokens) = (0, 0, 0);
        if self.encode_only {
            let texts: Vec<String> = self.documents(&files)?.into_iter().map(|d| d.text).collect();
            let inner = tokenizers::Tokenizer::from_file(&self.tokenizer);
            let inner = inner.map_err(|e| Error::content(&self.tokenizer, e.to_string()))?;
            for _ in 0..self.repeat {
                let started = Instant::now();
                let encodings = inner.encode_batch_fast(texts.clone(), true);
                let encodings = encodings.map_err(|e| self.content(e))?;
                seconds.push(started.elapsed().as_secs_f64());
                tokens = encodings.iter().map(|e| e.get_ids().len() as u64).sum();
            }
            (documents, bytes) = (texts.len() as u64, texts.iter().map(|t| t.len() as u64).sum());
        } else {
            for _ in 0..self.repeat {
                let dir =
                    tempfile::tempdir().map_err(|source| Error::Io { path: "temporary folder".into(), source })?;
                let started = Instant::now();
                let input = match self.limit {
                    None => TextInput::file(files.clone(), self.file.clone()).map_err(|e| self.content(e))?,
                    Some(_) => {
                        let some = self.documents(&files)?;
                        TextInput::documents("some", "some", move || some.clone().into_iter())
                    }
                };
                StoreBuilder::new(&tokenizer, "bench").build(&[input], dir.path(), &mut |_| {})?;
                seconds.push(started.elapsed().as_secs_f64());
                let store = TokenStore::open(dir.path()).map_err(|e| self.content(e))?;
                let summary = store.inspect();
                (documents, bytes) = (summary.documents, summary.text_bytes);
                // Without the end tokens, which the script does not add.
                tokens = summary.tokens - summary.documents;
            }
        }
        let s = median(&seconds);
        Ok(json!({
            "peer": if self.encode_only { "tokenizers_encode_batch" } else { "midtrain_tokenize" },
            "documents": documents, "bytes": bytes, "tokens": tokens, "threads": rayon::current_num_threads(),
            "seconds": round(s, 4), "tokens_per_s": (tokens as f64 / s).round(),
            "mb_per_s": round(bytes as f64 / s / 1e6, 2), "peak_memory_mib": peak_memory_mib(),
            "version": env!("CARGO_PKG_VERSION"),
        }))
    }

    fn documents(&self, files: &SourceFiles) -> Result<Vec<Document>, Error> {
        let mut documents = Vec::new();
        files
            .read(&self.file, &mut |document| {
                documents.push(document);
                let full = self.limit.is_some_and(|limit| documents.len() >= limit);
                if full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })
            .map_err(|e| self.content(e))?;
        Ok(documents)
    }

    fn content(&self, reason: impl std::fmt::Display) -> Error {
        Error::content(&self.file, reason.to_string())
    }
}

/// Two raw files of token ids to count and compare.
#[derive(Debug, Clone)]
pub struct Count {
    /// The files, little-endian.
    pub files: [PathBuf; 2],
    /// Bytes of an id: 2 or 4.
    pub id_bytes: usize,
    /// The vocabulary.
    pub vocabulary: usize,
    /// How often it is done.
    pub repeat: usize,
}

impl Count {
    /// Counts both files, then compares them; the result has the fields of the script's JSON line.
    ///
    /// # Errors
    /// Files that cannot be read, ids outside the vocabulary.
    pub fn run(&self) -> Result<Value, Error> {
        let maps = [map(&self.files[0])?, map(&self.files[1])?];
        let content = |i: usize, e: metrics_proximity::Error| Error::content(&self.files[i], e.to_string());
        let (mut counting, mut comparing) = (Vec::new(), Vec::new());
        let mut result = None;
        for _ in 0..self.repeat {
            let started = Instant::now();
            let a = Counts::of_ids(self.vocabulary, self.ids(&maps[0])).map_err(|e| content(0, e))?;
            let b = Counts::of_ids(self.vocabulary, self.ids(&maps[1])).map_err(|e| content(1, e))?;
            counting.push(started.elapsed().as_secs_f64());
            let started = Instant::now();
            let of = |i: usize, counts: &Counts| Distribution::of(counts).map_err(|e| content(i, e));
            result =
                Some(similarity(&of(0, &a)?, &of(1, &b)?, &SimilarityOptions::default()).map_err(|e| content(0, e))?);
            comparing.push(started.elapsed().as_secs_f64());
        }
        let bytes = (maps[0].len() + maps[1].len()) as f64;
        let (tokens, s) = (bytes / self.id_bytes as f64, median(&counting));
        let r = result.ok_or_else(|| Error::option("repeat", 0, "must be at least 1"))?;
        Ok(json!({
            "peer": "midtrain_count", "dtype": if self.id_bytes == 2 { "uint16" } else { "uint32" },
            "tokens": tokens, "workers": rayon::current_num_threads(), "count_seconds": round(s, 4),
            "tokens_per_s": (tokens / s).round(), "gb_per_s": round(bytes / s / 1e9, 4),
            "metrics_seconds": round(comparing.iter().copied().fold(f64::INFINITY, f64::min), 6),
            "cosine": round(r.cosine, 9), "jaccard": round(r.jaccard, 9), "overlap_min": round(r.overlap, 9),
            "jsd_bits": round(r.jsd_bits, 9), "combined_divergence": round(r.combined, 9),
            "version": env!("CARGO_PKG_VERSION"),
        }))
    }

    fn ids<'a>(&self, map: &'a Mmap) -> Piece<'a> {
        if self.id_bytes == 2 { Piece::Two(map.as_chunks().0) } else { Piece::Four(map.as_chunks().0) }
    }
}

fn map(path: &Path) -> Result<Mmap, Error> {
    let io = |source| Error::Io { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(io)?;
    // SAFETY: the map is read-only; a file that another process shortens meanwhile is outside what a benchmark supports.
    unsafe { Mmap::map(&file) }.map_err(io)
}

fn round(value: f64, digits: i32) -> f64 {
    (value * 10f64.powi(digits)).round() / 10f64.powi(digits)
}
