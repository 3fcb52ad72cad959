//! What can go wrong with a page.

use std::path::PathBuf;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file that cannot be written.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// Two files of one name: one would replace the other.
    #[error("{path} is written twice: names of a page's tables, figures and files must differ", path = path.display())]
    Twice {
        /// The file's name in the output directory.
        path: PathBuf,
    },
    /// A name that would lead out of the output directory.
    #[error("{name} cannot be the name of a file of the output directory: letters, digits, '.', '_' and '-' can")]
    Name {
        /// The name.
        name: String,
    },
    /// A figure that cannot be drawn.
    #[error("figure {figure}: {reason}")]
    Figure {
        /// Its name.
        figure: String,
        /// Why.
        reason: String,
    },
}
