//! The allocator of this project's programs: memory that one training step frees is kept for the next.

use std::sync::Once;

/// Makes mimalloc a program's allocator. For binaries: a library that set one would forbid those that use it theirs.
///
/// Freshly mapped pages would cost a training step on a CPU more than a quarter of its time.
#[macro_export]
macro_rules! allocator {
    () => {
        #[global_allocator]
        static ALLOCATOR: $crate::MiMalloc = $crate::MiMalloc;
    };
}

/// `mi_option_purge_delay` of mimalloc.h.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// From now on freed pages are not given back to the system: every step frees and takes the same hundreds of
/// megabytes. (Page faults of a Pythia-70m step: about 250 before, most of huge pages, and 3 since.)
/// MIMALLOC_PURGE_DELAY in the environment wins. A program with another allocator is not touched by it.
pub(crate) fn keep_freed_pages() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if std::env::var_os("MIMALLOC_PURGE_DELAY").is_none() {
            // SAFETY: the call writes one integer of mimalloc's own table of options; -1 means never.
            unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, -1) }
        }
    });
}
