//! Jobs in processes of the same program, each with its share of the cores, or with GPUs of its own.

use std::io::{BufRead as _, BufReader, Write as _};
use std::num::NonZeroUsize;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use super::worker::{Order, Word};
use super::{Ended, Engine, Event, Task, Timing};
use crate::address::Address;
use crate::{Error, Machine};

/// How long processes are given to end by themselves once nobody wants anything of them.
const PATIENCE: Duration = Duration::from_secs(5);

/// Which processes an engine runs.
pub struct Processes {
    /// What computes in each of them.
    pub machine: Machine,
    /// How many.
    pub count: NonZeroUsize,
    /// Cores that they share.
    pub cores: NonZeroUsize,
    /// Makes the command of the process of a number, from 0.
    pub command: Box<dyn Fn(usize) -> Command>,
}

impl std::fmt::Debug for Processes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Processes").field("count", &self.count).field("cores", &self.cores).finish_non_exhaustive()
    }
}

/// Runs jobs in processes.
#[derive(Debug)]
pub struct ProcessEngine {
    processes: Processes,
    slots: Vec<Slot>,
    tell: Sender<Heard>,
    heard: Receiver<Heard>,
    /// The signal that was passed on.
    stopping: Option<i32>,
}

/// A place for a process.
#[derive(Debug, Default)]
struct Slot {
    process: Option<Process>,
    /// What it is at.
    job: Option<Address>,
    /// Processes that were in this place before: what they said does not count any more.
    generation: u64,
}

#[derive(Debug)]
struct Process {
    child: Child,
    input: ChildStdin,
}

/// What came from a place.
#[derive(Debug)]
struct Heard {
    slot: usize,
    generation: u64,
    /// `None`: the process has closed its output.
    word: Option<Word>,
}

impl ProcessEngine {
    /// Processes are started when there are jobs for them.
    pub fn new(processes: Processes) -> Self {
        let (tell, heard) = channel();
        let slots = (0..processes.count.get()).map(|_| Slot::default()).collect();
        Self { processes, slots, tell, heard, stopping: None }
    }

    /// Starts a process in a place that has none.
    fn spawn(&mut self, number: usize) -> Result<(), Error> {
        if self.slots[number].process.is_some() {
            return Ok(());
        }
        let mut command = (self.processes.command)(number);
        let program = command.get_program().to_owned();
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(Error::io(program.as_ref()))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Error::Usage { reason: "a process without standard input and output".to_owned() });
        };
        let slot = &mut self.slots[number];
        slot.generation += 1;
        slot.process = Some(Process { child, input });
        let (tell, generation) = (self.tell.clone(), slot.generation);
        std::thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                match serde_json::from_slice(&line) {
                    Ok(word) => drop(tell.send(Heard { slot: number, generation, word: Some(word) })),
                    // What is no word of ours was printed by a library: it is not lost.
                    Err(_) => drop(writeln!(std::io::stderr(), "{}", String::from_utf8_lossy(&line))),
                }
            }
            drop(tell.send(Heard { slot: number, generation, word: None }));
        });
        Ok(())
    }

    /// Sends an order. Of a process that is gone, the end is heard.
    fn order(&mut self, number: usize, order: &Order) {
        let Some(process) = &mut self.slots[number].process else { return };
        let mut line = serde_json::to_vec(order).expect("orders are plain data with string keys");
        line.push(b'\n');
        drop(process.input.write_all(&line).and_then(|()| process.input.flush()));
    }

    /// What a word means for whoever waits for jobs.
    fn event(&mut self, Heard { slot: number, generation, word }: Heard) -> Option<Event> {
        let slot = self.slots.get_mut(number).filter(|slot| slot.generation == generation)?;
        match word {
            Some(Word::Event(event)) => {
                if let Event::Ended { how, .. } = &event {
                    slot.job = None;
                    // It alone was told to stop, and would do nothing more.
                    if matches!(how, Ended::Stopped { .. })
                        && self.stopping.is_none()
                        && let Some(process) = slot.process.take()
                    {
                        end(process, PATIENCE);
                    }
                }
                Some(event)
            }
            Some(Word::Timed(_)) => None,
            None => {
                let status = slot.process.take().map(|process| end(process, PATIENCE));
                let job = slot.job.take()?;
                let how = match (self.stopping, status.flatten()) {
                    (Some(signal), _) => Ended::Stopped { signal },
                    (None, status) => Ended::Lost { reason: describe(status) },
                };
                Some(Event::Ended { job, how })
            }
        }
    }

    /// Times a piece of work in these places at once.
    /// `None` where one of them ended.
    fn time_in(&mut self, places: usize, timing: &Timing, threads: Option<NonZeroUsize>) -> Result<Option<f64>, Error> {
        for number in 0..places {
            self.spawn(number)?;
            self.order(number, &Order::Time(Box::new(timing.clone()), threads));
        }
        let mut speeds = Vec::new();
        while speeds.len() < places {
            let heard = self.heard.recv().map_err(|_| Error::Usage { reason: "no process answers".to_owned() })?;
            if self.slots.get(heard.slot).is_none_or(|slot| slot.generation != heard.generation) {
                continue;
            }
            match heard.word {
                Some(Word::Timed(speed)) => speeds.push(speed.map_err(Error::Job)?),
                Some(Word::Event(_)) => {}
                None => {
                    // All of them: what the others still say would be taken for an answer to the next question.
                    for slot in &mut self.slots {
                        if let Some(process) = slot.process.take() {
                            end(process, PATIENCE);
                        }
                    }
                    return Ok(None);
                }
            }
        }
        Ok(Some(speeds.iter().sum::<f64>() / places as f64))
    }
}

impl Engine for ProcessEngine {
    fn machine(&self) -> &Machine {
        &self.processes.machine
    }

    fn slots(&self) -> usize {
        self.slots.len()
    }

    fn share(&self, jobs: usize) -> Option<NonZeroUsize> {
        NonZeroUsize::new(self.processes.cores.get() / jobs.clamp(1, self.slots.len())).or(NonZeroUsize::new(1))
    }

    fn start(&mut self, task: Task) -> Result<(), Error> {
        let Some(number) = self.slots.iter().position(|slot| slot.job.is_none()) else {
            return Err(Error::Usage { reason: "more jobs than processes".to_owned() });
        };
        self.spawn(number)?;
        self.slots[number].job = Some(task.job.address());
        self.order(number, &Order::Run(Box::new(task)));
        Ok(())
    }

    fn event(&mut self, at_most: Duration) -> Option<Event> {
        let until = Instant::now() + at_most;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let heard = self.heard.recv_timeout(left).ok()?;
            if let Some(event) = self.event(heard) {
                return Some(event);
            }
        }
    }

    fn stop(&mut self, signal: i32) {
        self.stopping = Some(signal);
        for number in 0..self.slots.len() {
            self.order(number, &Order::Stop(signal));
        }
    }

    fn time(&mut self, timing: &Timing, slots: usize) -> Result<Option<f64>, Error> {
        let slots = slots.clamp(1, self.slots());
        self.time_in(slots, timing, self.share(slots))
    }
}

impl Drop for ProcessEngine {
    /// No process is left behind.
    fn drop(&mut self) {
        let processes: Vec<Process> = self.slots.iter_mut().filter_map(|slot| slot.process.take()).collect();
        // The inputs of all of them end first: they end side by side.
        let children: Vec<Child> = processes.into_iter().map(|Process { child, .. }| child).collect();
        let until = Instant::now() + PATIENCE;
        for mut child in children {
            wait(&mut child, until.saturating_duration_since(Instant::now()));
        }
    }
}

/// Waits for a process whose input ends now.
fn end(process: Process, patience: Duration) -> Option<ExitStatus> {
    let Process { mut child, input } = process;
    drop(input);
    wait(&mut child, patience)
}

/// Waits for a process; ends it where it does not do so by itself.
fn wait(child: &mut Child, patience: Duration) -> Option<ExitStatus> {
    let until = Instant::now() + patience;
    while Instant::now() < until {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) => std::thread::sleep(Duration::from_millis(2)),
            Err(_) => return None,
        }
    }
    drop(child.kill());
    child.wait().ok()
}

fn describe(status: Option<ExitStatus>) -> String {
    #[cfg(unix)]
    if let Some(signal) = status.and_then(|status| std::os::unix::process::ExitStatusExt::signal(&status)) {
        let memory = if signal == 9 { " (out of memory?)" } else { "" };
        return format!("was ended by signal {signal}{memory}");
    }
    match status.and_then(|status| status.code()) {
        Some(code) => format!("ended with status {code}"),
        None => "ended".to_owned(),
    }
}

/// The GPUs that this process may use: those that `CUDA_VISIBLE_DEVICES` names, else all that the driver lists.
pub fn gpus() -> Vec<String> {
    let listed = std::fs::read_dir("/proc/driver/nvidia/gpus").map_or(0, |gpus| gpus.flatten().count());
    visible(std::env::var("CUDA_VISIBLE_DEVICES").ok().as_deref(), listed)
}

/// As CUDA reads the variable: names up to the first that is none.
fn visible(variable: Option<&str>, listed: usize) -> Vec<String> {
    match variable {
        Some(names) => {
            let names = names.split(',').map(str::trim);
            names.take_while(|gpu| !gpu.is_empty() && !gpu.starts_with('-')).map(str::to_owned).collect()
        }
        None => (0..listed).map(|number| number.to_string()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::visible;

    #[test]
    fn devices_are_those_that_cuda_would_see() {
        assert_eq!(visible(None, 2), ["0", "1"]);
        assert_eq!(visible(Some("3, GPU-1a2b,5"), 8), ["3", "GPU-1a2b", "5"]);
        assert_eq!(visible(Some("1,-1,2"), 8), ["1"]);
        assert!(visible(Some(""), 8).is_empty() && visible(None, 0).is_empty());
    }
}
