//! The other side of [`ProcessEngine`](super::ProcessEngine): a process that runs jobs one after the other.
//!
//! Orders come as lines of JSON on standard input, events go as lines of JSON to standard output. When the input ends,
//! the parent is gone: the job stops with a checkpoint, or after a moment without one.

use std::io::{BufRead as _, Write as _};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Ended, Event, Processor, Report, Task, Timing, Trouble};
use crate::{Error, StopSignal};

/// How long a job may go on without its parent: until the end of a step, if that is not too far.
const GRACE: Duration = Duration::from_secs(3);

/// SIGTERM.
const TERM: i32 = 15;

/// What a worker is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Order {
    Run(Box<Task>),
    Time(Box<Timing>, Option<std::num::NonZeroUsize>),
    Stop(i32),
}

/// What a worker says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Word {
    Event(Event),
    Timed(Result<f64, Trouble>),
}

/// Runs what is asked for on standard input until it ends. `processor` makes what computes: it may take a while, and the
/// parent may be gone before.
///
/// # Errors
/// An unavailable processor, an order that cannot be read.
pub fn work(processor: impl FnOnce() -> Result<Box<dyn Processor>, Error>, signal: &StopSignal) -> Result<(), Error> {
    let (orders, inbox) = channel();
    let stop = signal.clone();
    std::thread::spawn(move || listen(orders, &stop));
    serve(&*processor()?, signal, inbox)
}

/// Passes orders on; ends the process soon after the input's end.
fn listen(orders: Sender<Result<Order, Error>>, signal: &StopSignal) {
    for line in std::io::stdin().lock().lines() {
        let Ok(line) = line else { break };
        match serde_json::from_str(&line) {
            Ok(Order::Stop(number)) => signal.raise(number),
            Ok(order) => drop(orders.send(Ok(order))),
            Err(e) => drop(orders.send(Err(Error::Usage { reason: format!("not an order: {e}: {line}") }))),
        }
    }
    signal.raise(TERM);
    // A process without a job ends now.
    drop(orders);
    std::thread::sleep(GRACE);
    // At once: a job may be in the middle of anything.
    signal_hook::low_level::exit(128 + TERM);
}

fn serve(processor: &dyn Processor, signal: &StopSignal, orders: Receiver<Result<Order, Error>>) -> Result<(), Error> {
    for order in orders {
        if signal.received().is_some() {
            break;
        }
        match order? {
            Order::Run(task) => {
                let job = task.job.address();
                let report = Report::new(job.clone(), signal.clone(), |event| say(&Word::Event(event)));
                let how: Ended = processor.run(&task, &report);
                say(&Word::Event(Event::Ended { job, how }));
                if signal.received().is_some() {
                    break;
                }
            }
            Order::Time(timing, threads) => {
                say(&Word::Timed(processor.time(&timing, threads).map_err(|e| Trouble::from(&e))));
            }
            Order::Stop(_) => {}
        }
    }
    Ok(())
}

/// A parent that is gone is noticed at the input.
fn say(word: &Word) {
    let mut line = serde_json::to_vec(word).expect("words are plain data with string keys");
    line.push(b'\n');
    let mut out = std::io::stdout().lock();
    drop(out.write_all(&line).and_then(|()| out.flush()));
}
