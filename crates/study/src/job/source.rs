//! A role's documents, before they are tokens: where they come from, what tells whether they changed, how work on them is
//! shared.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use corpus::{Document, Domain, Generator, SourceFiles, TextInput as Part};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::address::digest;
use crate::fingerprints::Fingerprints;
use crate::spec::{DataSpec, GENERAL, RoleFiles};

/// Bytes of files that one job tokenises, unless the study says otherwise. A file is never cut.
const PART_BYTES: u64 = 1 << 30;
/// Files that are named among those not read.
const PASSED_OVER: usize = 20;
/// Bytes of a generated document, about.
const GENERATED_BYTES: u64 = 400;

/// A role's documents, before they are tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RoleSource {
    /// The role.
    pub(crate) role: String,
    /// Where they come from.
    pub(crate) origin: Origin,
    /// Changes whenever a document may.
    pub(crate) fingerprint: String,
    /// Bytes of its files, or of its texts, about.
    #[serde(default)]
    pub(crate) bytes: u64,
    /// What lies beside its files and is not read, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) passed_over: Vec<String>,
    /// Where there is so much of it that several jobs share the work: their parts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) parts: Vec<SourcePart>,
}

/// Some of a role's files, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SourcePart {
    /// Its first file, counted from 0, and the one after its last.
    pub(crate) files: (usize, usize),
    /// Changes whenever a document of it may.
    pub(crate) fingerprint: String,
    /// Bytes of the files.
    pub(crate) bytes: u64,
}

/// Where documents come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Origin {
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
    role: &'a str,
    pub(super) inputs: Vec<Part<'a>>,
    /// The files that they are, and the folder that patterns are relative to; none where documents are generated.
    paths: Vec<PathBuf>,
    dir: &'a Path,
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
    pub(crate) fn new(data: &DataSpec, role: String, known: &mut Fingerprints) -> Result<Self, Error> {
        match data {
            DataSpec::Files { dir, sources, part_bytes } => {
                let Some(files) = sources.0.get(&role) else {
                    let known = sources.0.keys().cloned().collect::<Vec<_>>().join(", ");
                    return Err(Error::field("sources", &role, format!("is missing; roles given: {known}")));
                };
                if !dir.is_dir() {
                    return Err(Error::field("data directory", dir.display(), "does not exist"));
                }
                let Files { inputs, sizes, passed_over, .. } = inputs_of_files(&role, dir, files, known)?;
                Ok(Self {
                    role,
                    fingerprint: print(&inputs),
                    bytes: sizes.iter().sum(),
                    passed_over,
                    parts: cut(&inputs, &sizes, part_bytes.unwrap_or(PART_BYTES)),
                    origin: Origin::Files { dir: dir.clone(), files: files.clone() },
                })
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
                let origin = Origin::Generated { seed: *seed, documents };
                let bytes = documents.saturating_mul(GENERATED_BYTES);
                Ok(Self { role, origin, fingerprint, bytes, passed_over: Vec::new(), parts: Vec::new() })
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
    pub(crate) fn open<'a>(
        &'a self,
        generator: Option<&'a Generator>,
        known: &mut Fingerprints,
    ) -> Result<OpenRole<'a>, Error> {
        let (inputs, paths, dir) = match (&self.origin, generator, domain(&self.role)) {
            (Origin::Files { dir, files }, ..) => {
                let Files { inputs, paths, .. } = inputs_of_files(&self.role, dir, files, known)?;
                if print(&inputs) != self.fingerprint {
                    return Err(Error::field(
                        "files of role",
                        &self.role,
                        "are not those that the job was planned for: they changed since",
                    ));
                }
                (inputs, paths, &**dir)
            }
            (Origin::Generated { documents, .. }, Some(generator), Some(domain)) => {
                let documents = *documents as usize;
                let read = move || generator.documents(domain).take(documents);
                (vec![Part::documents(&self.role, &self.fingerprint, read)], Vec::new(), Path::new(""))
            }
            _ => return Err(Error::field("role", &self.role, "is not generated")),
        };
        Ok(OpenRole { role: &self.role, inputs, paths, dir })
    }
}

/// A role's files in order, unread.
struct Files {
    inputs: Vec<Part<'static>>,
    paths: Vec<PathBuf>,
    sizes: Vec<u64>,
    /// What was met beside them.
    passed_over: Vec<String>,
}

fn inputs_of_files(role: &str, dir: &Path, files: &RoleFiles, known: &mut Fingerprints) -> Result<Files, Error> {
    let input = |source| Error::Input { role: role.to_owned(), source };
    let (mut inputs, mut paths, mut sizes, mut passed_over) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut files_of_sets = HashMap::new();
    for (number, set) in files.sets.iter().enumerate() {
        let found = set.find(dir).map_err(input)?;
        for path in &found.files {
            let file = path.canonicalize().unwrap_or_else(|_| path.clone());
            if files_of_sets.insert(file, number).is_some_and(|other| other != number) {
                let limit = "stands in two of the role's sets: its documents would be read twice";
                return Err(Error::field(format!("files of {role}"), path.display(), limit));
            }
        }
        let contents = known.of(&found.files)?;
        for (path, (content, bytes)) in found.files.iter().zip(contents) {
            inputs.push(Part::file_of(set.clone(), path.clone(), &content));
            sizes.push(bytes);
        }
        passed_over.extend(found.passed_over.iter().map(ToString::to_string));
        paths.extend(found.files);
    }
    // What another set reads is not passed over.
    passed_over.retain(|over| !paths.iter().any(|path| over.starts_with(&format!("{}: ", path.display()))));
    if passed_over.len() > PASSED_OVER {
        let more = passed_over.len() - PASSED_OVER;
        passed_over.truncate(PASSED_OVER);
        passed_over.push(format!("{more} more"));
    }
    Ok(Files { inputs, paths, sizes, passed_over })
}

/// Neighbouring files together, up to so many bytes; none where all fit.
fn cut(inputs: &[Part<'_>], sizes: &[u64], most: u64) -> Vec<SourcePart> {
    let mut parts: Vec<SourcePart> = Vec::new();
    for (i, bytes) in sizes.iter().enumerate() {
        match parts.last_mut() {
            Some(part) if part.bytes.saturating_add(*bytes) <= most => {
                part.files.1 = i + 1;
                part.bytes += bytes;
            }
            _ => parts.push(SourcePart { files: (i, i + 1), fingerprint: String::new(), bytes: *bytes }),
        }
    }
    if parts.len() < 2 {
        return Vec::new();
    }
    for part in &mut parts {
        part.fingerprint = print(&inputs[part.files.0..part.files.1]);
    }
    parts
}

fn print(parts: &[Part<'_>]) -> String {
    digest(&parts.iter().map(Part::fingerprint).collect::<Vec<_>>())
}

impl OpenRole<'_> {
    /// Looks at the beginning of every file: a file that is no such file, or whose layout is unknown, is found before
    /// anything is made of the others.
    ///
    /// # Errors
    /// Whatever is wrong with a file's first record.
    pub(crate) fn look(&self) -> Result<(), Error> {
        let role = || self.role.to_owned();
        self.inputs.iter().try_for_each(|input| {
            let read = input.read(&mut |_| ControlFlow::Break(()));
            read.map(drop).map_err(|source| Error::Input { role: role(), source })
        })
    }

    /// The places of its inputs that patterns name, in order.
    ///
    /// # Errors
    /// A pattern that names no file, or one that is none of the role's.
    pub(crate) fn named(&self, field: &str, patterns: &[String]) -> Result<Vec<usize>, Error> {
        if patterns.is_empty() {
            return Ok(Vec::new());
        }
        let mut named = Vec::new();
        // However a pattern is written, from the root or through other folders, it names the same file.
        let whole = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let paths: Vec<PathBuf> = self.paths.iter().map(|path| whole(path)).collect();
        for pattern in patterns {
            if self.paths.is_empty() {
                return Err(Error::field(field, pattern, "names files, but the documents of this role are generated"));
            }
            let found = SourceFiles::matching([pattern]).paths(self.dir);
            for path in found.map_err(|source| Error::Input { role: self.role.to_owned(), source })? {
                let path = whole(&path);
                named.extend((0..paths.len()).filter(|place| paths[*place] == path));
                if !paths.contains(&path) {
                    let limit = format!(
                        "names {}, which is none of the files of {}: add it to them",
                        path.display(),
                        self.role
                    );
                    return Err(Error::field(field, pattern, limit));
                }
            }
        }
        named.sort_unstable();
        named.dedup();
        Ok(named)
    }

    /// Calls `f` with each document of the inputs that are chosen, and its input's place, until it says to stop.
    pub(crate) fn each(
        &self,
        chosen: &dyn Fn(usize) -> bool,
        f: &mut dyn FnMut(Document, usize) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        for (place, part) in self.inputs.iter().enumerate().filter(|(place, _)| chosen(*place)) {
            let mut flow = ControlFlow::Continue(());
            part.read(&mut |document| {
                flow = f(document, place);
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
