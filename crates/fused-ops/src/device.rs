//! What a GPU's thread could not do. CubeCL queues work on a thread of its own, which catches a panic (a kernel that does
//! not compile, an allocation that fails) and only logs it: the numbers after that are worth nothing. So the log is
//! listened to.

use std::sync::{Mutex, PoisonError};

use log::{Level, LevelFilter, Log, Metadata, Record};

/// How CubeCL's message about a caught panic begins.
const CAUGHT: &str = "Task failed";

static FAILURE: Mutex<Option<String>> = Mutex::new(None);

struct Listener;

impl Log for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= Level::Warn
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let text = record.args().to_string();
        if text.starts_with(CAUGHT) {
            FAILURE.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| text.clone());
        }
        // A closed standard error must not end a run.
        let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("{}: {text}\n", record.target()).as_bytes());
    }

    fn flush(&self) {}
}

/// Listens to the log from now on, and prints its warnings. A program that has a logger of its own keeps it: then
/// [`failure`] knows nothing.
pub fn listen() {
    if log::set_logger(&Listener).is_ok() {
        log::set_max_level(LevelFilter::Warn);
    }
}

/// What a device's thread could not do, since [`listen`] was called: the first message.
pub fn failure() -> Option<String> {
    FAILURE.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Keeps compiled kernels between processes, in the project's `target` folder or the user's cache folder, unless a
/// cubecl.toml or burn.toml says where: compiling those of a training step takes some 15 seconds. To be called before a
/// device is used; does nothing after.
#[cfg(any(feature = "cuda", feature = "vulkan"))]
pub fn keep_kernels() {
    use burn_cubecl::cubecl::config::cache::CacheConfig;
    use burn_cubecl::cubecl::config::{CubeClRuntimeConfig, RuntimeConfig as _};

    if CubeClRuntimeConfig::storage().lock().is_some() {
        return;
    }
    let mut config = CubeClRuntimeConfig::from_current_dir().override_from_env();
    config.compilation.cache.get_or_insert(CacheConfig::Target);
    CubeClRuntimeConfig::set(config);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caught_panic_is_remembered() {
        listen();
        assert_eq!(failure(), None);
        log::warn!("something else");
        assert_eq!(failure(), None);
        log::warn!("{CAUGHT}: out of memory");
        log::warn!("{CAUGHT}: what follows from it");
        assert_eq!(failure().unwrap(), "Task failed: out of memory");
    }
}
