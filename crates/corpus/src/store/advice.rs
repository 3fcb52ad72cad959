//! Hints about how a mapped file is read. Where they cannot be given nothing is lost but time.

use std::ops::Range;

use memmap2::Mmap;

/// The whole is read here and there.
pub(super) fn random(map: &Mmap) {
    #[cfg(unix)]
    let _ = map.advise(memmap2::Advice::Random);
    #[cfg(not(unix))]
    let _ = map;
}

/// A part, in bytes, is read soon.
pub(super) fn will_need(map: &Mmap, bytes: Range<usize>) {
    #[cfg(unix)]
    if bytes.start < bytes.end && bytes.end <= map.len() {
        let _ = map.advise_range(memmap2::Advice::WillNeed, bytes.start, bytes.end - bytes.start);
    }
    #[cfg(not(unix))]
    let _ = (map, bytes);
}
