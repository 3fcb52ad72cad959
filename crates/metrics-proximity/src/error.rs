//! What can be wrong.

/// What can be wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A token id that the vocabulary does not have.
    #[error("token id {id} is not below the vocabulary size {vocabulary}")]
    Id {
        /// The id.
        id: u32,
        /// The vocabulary size.
        vocabulary: usize,
    },
    /// Counts under vocabularies of different sizes.
    #[error("vocabularies of {left} and {right} tokens cannot be compared")]
    Vocabulary {
        /// One side.
        left: usize,
        /// The other.
        right: usize,
    },
    /// A corpus without tokens has no distribution.
    #[error("an empty corpus has no token distribution")]
    Empty,
    /// Weights that are not valid for a mixture.
    #[error("weights = {weights:?} must each be from 0 to 1 and add up to 1")]
    Weights {
        /// The weights.
        weights: Vec<f64>,
    },
    /// An option outside its limits.
    #[error("{field} = {value} {limit}")]
    Option {
        /// The option.
        field: &'static str,
        /// Its value.
        value: f64,
        /// What it must be.
        limit: &'static str,
    },
    /// A sample of more tokens than there are.
    #[error("a sample of {tokens} tokens cannot be drawn from {most}")]
    Sample {
        /// The sample.
        tokens: u64,
        /// What there is.
        most: u64,
    },
    /// A budget that the halves of a corpus do not hold.
    #[error(
        "budget = {budget} tokens a side: either half of the documents of {corpus} holds at least {most}, and no more can be \
         promised to both"
    )]
    Budget {
        /// The budget.
        budget: u64,
        /// The corpus.
        corpus: String,
        /// The most that it allows.
        most: u64,
    },
    /// Too few documents to compare one half of them with the other.
    #[error("{documents} document(s) with tokens: at least 2 are needed, one for each side")]
    Documents {
        /// Those there are.
        documents: usize,
    },
    /// An index that names no corpus.
    #[error("{what} names corpus {index}; there are {corpora}")]
    Corpus {
        /// What names it.
        what: String,
        /// The index.
        index: usize,
        /// Corpora there are.
        corpora: usize,
    },
    /// An invalid corpus, by its name.
    #[error("{name}: {source}")]
    In {
        /// The corpus or mixture.
        name: String,
        /// The cause.
        source: Box<Error>,
    },
    /// A store that cannot be read.
    #[error(transparent)]
    Store(#[from] corpus::StoreError),
}

impl Error {
    pub(crate) fn within(name: &str) -> impl FnOnce(Self) -> Self {
        let name = name.to_owned();
        move |source| Self::In { name, source: Box::new(source) }
    }
}
