//! Named, counter-based random streams: a key from (seed, purpose, index), never a global generator.

use xxhash_rust::xxh3::Xxh3;

/// A 64-bit key that changes wholly with each of its inputs.
pub fn stream_key(seed: u64, purpose: &str, index: u64) -> u64 {
    let mut hash = Xxh3::with_seed(seed);
    hash.update(&(purpose.len() as u64).to_le_bytes());
    hash.update(purpose.as_bytes());
    hash.update(&index.to_le_bytes());
    hash.digest()
}
