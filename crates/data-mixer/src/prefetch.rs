//! Batches made on another thread while the last one is trained on.

use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use crate::{Batch, BatchSource, Error};

/// How far ahead data are asked for.
const AHEAD: u64 = 1;

/// Batches in order, made ahead. Ends after the last step or the first error; a panic of the other thread goes on here.
#[derive(Debug)]
pub struct Prefetched {
    queue: Receiver<Result<Batch, Error>>,
    /// The other thread, where nobody else waits for it.
    thread: Option<JoinHandle<()>>,
}

impl Iterator for Prefetched {
    type Item = Result<Batch, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Ok(batch) = self.queue.recv() {
            return Some(batch);
        }
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join) {
            std::panic::resume_unwind(panic);
        }
        None
    }
}

/// Gives `consume` the batches of some steps, of which at most `depth` wait in the queue: memory stays bounded however
/// slow the consumer. What it returns early for stops the other thread too.
///
/// ```
/// # use data_mixer::{Batch, BatchSource, Error, prefetch};
/// # struct Counting;
/// # impl BatchSource for Counting {
/// #     fn steps(&self) -> u64 { 100 }
/// #     fn rows(&self, _: u64) -> usize { 1 }
/// #     fn batch_rows(&self, step: u64, _: std::ops::Range<usize>) -> Result<Batch, Error> {
/// #         Batch::new(1, vec![step as i32], vec![0], vec![0])
/// #     }
/// #     fn source_names(&self) -> Vec<String> { vec![] }
/// # }
/// let first = prefetch(&Counting, 40..100, 2, |batches| {
///     batches.take(3).map(|batch| Ok(batch?.inputs()[0])).collect::<Result<Vec<_>, Error>>()
/// })?;
/// assert_eq!(first, [40, 41, 42]);
/// # Ok::<(), Error>(())
/// ```
pub fn prefetch<R>(
    source: &dyn BatchSource,
    steps: Range<u64>,
    depth: usize,
    consume: impl FnOnce(&mut Prefetched) -> R,
) -> R {
    std::thread::scope(|scope| {
        let (sender, queue) = sync_channel(depth.max(1));
        scope.spawn(move || send(source, steps, &sender));
        // Dropped before the scope waits for the thread, so that a full queue does not hold it.
        let mut batches = Prefetched { queue, thread: None };
        consume(&mut batches)
    })
}

/// The same for a consumer that outlives this call: the other thread ends after the last step, the first error, or when what
/// is returned is dropped.
///
/// ```
/// # use std::sync::Arc;
/// # use data_mixer::{Batch, BatchSource, Error, prefetch_owned};
/// # struct Counting;
/// # impl BatchSource for Counting {
/// #     fn steps(&self) -> u64 { 100 }
/// #     fn rows(&self, _: u64) -> usize { 1 }
/// #     fn batch_rows(&self, step: u64, _: std::ops::Range<usize>) -> Result<Batch, Error> {
/// #         Batch::new(1, vec![step as i32], vec![0], vec![0])
/// #     }
/// #     fn source_names(&self) -> Vec<String> { vec![] }
/// # }
/// let mut batches = prefetch_owned(Arc::new(Counting), 40..100, 2);
/// assert_eq!(batches.next().unwrap()?.inputs(), [40]);
/// # Ok::<(), Error>(())
/// ```
pub fn prefetch_owned(source: Arc<dyn BatchSource>, steps: Range<u64>, depth: usize) -> Prefetched {
    let (sender, queue) = sync_channel(depth.max(1));
    let thread = std::thread::spawn(move || send(&*source, steps, &sender));
    Prefetched { queue, thread: Some(thread) }
}

/// Makes batches until the consumer is gone, or must not be given anything after an error.
fn send(source: &dyn BatchSource, steps: Range<u64>, to: &SyncSender<Result<Batch, Error>>) {
    let end = steps.end;
    for step in steps {
        // What is wanted after this one is fetched while this one is made and trained on.
        if step + AHEAD < end {
            source.will_need(step + AHEAD, 0..source.rows(step + AHEAD));
        }
        let batch = source.batch(step);
        let failed = batch.is_err();
        if to.send(batch).is_err() || failed {
            return;
        }
    }
}
