//! From files, or a generated corpus, to documents; from documents to memory-mapped token stores.
