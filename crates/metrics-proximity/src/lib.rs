//! Token-level similarity of corpora and mixtures; proximity advantage.
