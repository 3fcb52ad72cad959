//! Jobs in a thread of this process, one at a time.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::{Ended, Engine, Event, Processor, Report, Task, Timing, Trouble};
use crate::address::Address;
use crate::{Error, Machine, StopSignal};

/// Runs jobs in a thread of this process.
pub struct LocalEngine {
    machine: Machine,
    signal: StopSignal,
    /// What it is at.
    job: Option<Address>,
    orders: Option<Sender<Order>>,
    events: Receiver<Event>,
    times: Receiver<Result<f64, Error>>,
    thread: Option<JoinHandle<()>>,
}

enum Order {
    Run(Box<Task>),
    Time(Box<Timing>),
}

impl std::fmt::Debug for LocalEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalEngine").field("machine", &self.machine).finish_non_exhaustive()
    }
}

impl LocalEngine {
    /// On a processor; jobs stop with a checkpoint when the signal comes.
    pub fn new(processor: Box<dyn Processor>, signal: StopSignal) -> Self {
        let machine = processor.machine().clone();
        let (orders, inbox) = channel();
        let (tell, events) = channel();
        let (timed, times) = channel();
        let seen = signal.clone();
        let serve = move || {
            for order in inbox {
                match order {
                    Order::Run(task) => run(&*processor, &task, &seen, &tell),
                    // Nobody may wait for it any more.
                    Order::Time(timing) => drop(timed.send(processor.time(&timing, None))),
                }
            }
        };
        Self {
            machine,
            signal,
            job: None,
            orders: Some(orders),
            events,
            times,
            thread: Some(std::thread::spawn(serve)),
        }
    }

    fn order(&self, order: Order) -> Result<(), Error> {
        let gone = || Error::Usage { reason: "the engine's thread has ended".to_owned() };
        self.orders.as_ref().ok_or_else(gone)?.send(order).map_err(|_| gone())
    }
}

/// Runs a job and tells how it ended, whatever happens.
fn run(processor: &dyn Processor, task: &Task, signal: &StopSignal, tell: &Sender<Event>) {
    let job = task.job.address();
    let pass = tell.clone();
    let report = Report::new(job.clone(), signal.clone(), move |event| drop(pass.send(event)));
    // What a panic leaves unfinished is dropped with it: the job's lock, and nothing that other jobs use.
    let how = catch_unwind(AssertUnwindSafe(|| processor.run(task, &report))).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        let reason = format!("panicked: {}", said.unwrap_or("for an unknown reason"));
        Ended::Failed(Trouble { reason, certain: false, damaged: None, status: 1 })
    });
    drop(tell.send(Event::Ended { job, how }));
}

impl Engine for LocalEngine {
    fn machine(&self) -> &Machine {
        &self.machine
    }

    fn start(&mut self, task: Task) -> Result<(), Error> {
        let job = task.job.address();
        self.order(Order::Run(Box::new(task)))?;
        self.job = Some(job);
        Ok(())
    }

    fn event(&mut self, at_most: Duration) -> Option<Event> {
        match self.events.recv_timeout(at_most) {
            Ok(event) => {
                if matches!(event, Event::Ended { .. }) {
                    self.job = None;
                }
                Some(event)
            }
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => {
                let how = Ended::Lost { reason: "has lost its thread".to_owned() };
                Some(Event::Ended { job: self.job.take()?, how })
            }
        }
    }

    fn stop(&mut self, signal: i32) {
        self.signal.raise(signal);
    }

    fn time(&mut self, timing: &Timing, _: usize) -> Result<Option<f64>, Error> {
        self.order(Order::Time(Box::new(timing.clone())))?;
        let gone = |_| Error::Usage { reason: "the engine's thread has ended".to_owned() };
        self.times.recv().map_err(gone)?.map(Some)
    }
}

impl Drop for LocalEngine {
    /// Waits for the job at work: it holds a lock.
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}
