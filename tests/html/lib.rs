//! Nothing: see tests/valid.rs.
