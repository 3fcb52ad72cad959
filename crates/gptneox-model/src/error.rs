//! What can go wrong with a model's configuration and files.

use std::path::PathBuf;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A size name that Pythia does not have.
    #[error("unknown Pythia size {given:?}; known: {}", crate::PYTHIA_SIZES.join(", "))]
    UnknownSize {
        /// The name given.
        given: String,
    },
    /// A configuration value outside its limits.
    #[error("model config: {field} = {value} {limit}")]
    Config {
        /// The field.
        field: &'static str,
        /// The value given.
        value: String,
        /// The limit that it breaks.
        limit: String,
    },
    /// Generation that cannot be done.
    #[error("{field} {value} {limit}")]
    Generate {
        /// What was given.
        field: &'static str,
        /// Its value.
        value: String,
        /// The limit that it breaks.
        limit: String,
    },
    /// A file that cannot be read or written.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A file whose content is not what it should be.
    #[error("{path}: {reason}", path = path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Why it is invalid.
        reason: String,
    },
    /// An error about what a file or folder holds.
    #[error("{path}: {source}", path = path.display())]
    Within {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong in it.
        source: Box<Error>,
    },
    /// A parameter that the checkpoint lacks.
    #[error("tensor {name} (shape {expected:?}) is missing")]
    MissingTensor {
        /// Its name.
        name: String,
        /// The model's shape.
        expected: Vec<usize>,
    },
    /// A tensor of another shape than the model's.
    #[error("tensor {name} has shape {found:?}, the model needs {expected:?}")]
    Shape {
        /// Its name.
        name: String,
        /// The model's shape.
        expected: Vec<usize>,
        /// The file's shape.
        found: Vec<usize>,
    },
    /// A tensor that the model does not have.
    #[error("tensor {name} (shape {found:?}) belongs to no parameter of this model")]
    UnknownTensor {
        /// Its name.
        name: String,
        /// The file's shape.
        found: Vec<usize>,
    },
}

impl Error {
    /// The file that the error is about, where it is about one.
    pub fn path(&self) -> Option<&std::path::Path> {
        match self {
            Self::Io { path, .. } | Self::Format { path, .. } | Self::Within { path, .. } => Some(path),
            _ => None,
        }
    }

    /// The same, said of a file or folder.
    pub(crate) fn within(self, path: &std::path::Path) -> Self {
        Self::Within { path: path.to_owned(), source: Box::new(self) }
    }

    pub(crate) fn generate(field: &'static str, value: impl ToString, limit: impl Into<String>) -> Self {
        Self::Generate { field, value: value.to_string(), limit: limit.into() }
    }

    pub(crate) fn config(field: &'static str, value: impl ToString, limit: impl Into<String>) -> Self {
        Self::Config { field, value: value.to_string(), limit: limit.into() }
    }
}
