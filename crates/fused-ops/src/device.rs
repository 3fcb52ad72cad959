//! What a GPU's thread could not do. CubeCL queues work on a thread of its own, which catches a panic and only logs that there
//! was one: the numbers after that are worth nothing. So the log is listened to, and panics are remembered.

use std::cell::RefCell;
use std::sync::{Mutex, PoisonError};

use log::{Level, LevelFilter, Log, Metadata, Record};

/// How CubeCL's message about a caught panic begins.
const CAUGHT: &str = "Task failed";

static FAILURE: Mutex<Option<String>> = Mutex::new(None);

thread_local! {
    /// What this thread's last panic said: the log does not. (It is caught and logged on the thread that panicked.)
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

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
            let said = PANIC.try_with(|said| said.borrow().clone()).ok().flatten();
            locked(&FAILURE).get_or_insert_with(|| said.unwrap_or_else(|| text.clone()));
        }
        // Of a picture's line without length: nothing is missing.
        if record.target().starts_with("tiny_skia") {
            return;
        }
        // A closed standard error must not end a run.
        let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("{}: {text}\n", record.target()).as_bytes());
    }

    fn flush(&self) {}
}

/// Listens to the log from now on, prints its warnings, and remembers panics (which are reported as before). A program that has a
/// logger of its own keeps it: then [`failure`] knows nothing.
pub fn listen() {
    if log::set_logger(&Listener).is_ok() {
        log::set_max_level(LevelFilter::Warn);
        let report = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            // Where a thread is ending it has nothing left to remember with.
            let _ = PANIC.try_with(|said| said.replace(Some(info.to_string())));
            report(info);
        }));
    }
}

/// What a device's thread could not do, since [`listen`] was called: the first message.
pub fn failure() -> Option<String> {
    locked(&FAILURE).clone()
}

/// Keeps compiled kernels between processes, in the project's `target` folder or the user's cache folder, unless a
/// cubecl.toml or burn.toml says where: compiling those of a training step takes seconds. Each version of the sources,
/// and each kind of device (`kind`), has a folder. To be called before a device is used; does nothing after.
#[cfg(any(feature = "cuda", feature = "vulkan"))]
pub fn keep_kernels(kind: &str) {
    use burn_cubecl::cubecl::config::cache::CacheConfig;
    use burn_cubecl::cubecl::config::{CubeClRuntimeConfig, RuntimeConfig as _};

    if CubeClRuntimeConfig::storage().lock().is_some() {
        return;
    }
    let mut config = CubeClRuntimeConfig::from_current_dir().override_from_env();
    let folder = concat!("kernels-", env!("FUSED_OPS_KERNELS"));
    config
        .compilation
        .cache
        .get_or_insert_with(|| CacheConfig::File(CacheConfig::Target.root().join(folder).join(kind)));
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
        let task = |said: &'static str| {
            let task = move || {
                assert!(std::panic::catch_unwind(|| panic!("{said}")).is_err());
                // Another thread's panic is not this one's.
                assert!(std::thread::spawn(|| panic!("elsewhere")).join().is_err());
                log::warn!("{CAUGHT}: Any {{ .. }}");
            };
            std::thread::spawn(task).join().unwrap();
        };
        task("out of memory");
        task("what follows from it");
        let failure = failure().unwrap();
        assert!(failure.contains("out of memory") && failure.contains("device.rs"), "{failure}");
    }
}
