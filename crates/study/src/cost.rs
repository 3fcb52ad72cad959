//! How long jobs will take: speeds that the store knows of this machine, and timings of what it does not.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::address::Address;
use crate::engine::Timing;
use crate::job::Job;
use crate::speeds::{Speeds, cores, threads};
use crate::store::Store;
use crate::{Engine, Error, StopSignal, Study};

/// What is expected of the jobs that a store lacks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Expected {
    /// Seconds.
    pub seconds: f64,
    /// Jobs.
    pub jobs: usize,
    /// How many are run at once.
    pub at_once: usize,
}

/// Of jobs, inputs first. What was never measured on this machine is timed, unless nobody wants to know it so exactly.
///
/// # Errors
/// A model outside its limits, a precision that the backend does not have, a store that cannot be written.
pub(crate) fn expected(
    jobs: &[Job],
    study: &Study,
    store: &Store,
    engine: &mut dyn Engine,
    signal: &StopSignal,
) -> Result<Expected, Error> {
    let mut speeds = Speeds::read(store, engine.machine())?;
    let classes: BTreeSet<String> = jobs.iter().map(|job| job.cost().class).collect();
    let slots = engine.slots();
    for class in &classes {
        let Some(timing) = Timing::of_class(class, study) else { continue };
        // More at once than there are cores, or jobs, would tell nothing more.
        let at_once = slots.min(jobs.len()).min(cores());
        if !speeds.knows(class, threads(engine, at_once)) {
            time(class, &timing, at_once, engine, &mut speeds, signal)?;
        }
        // How much faster a job is alone is about the same for all.
        let pretrains = timing.trains && timing.time == study.spec().pretrain.time;
        if pretrains && slots > 1 && !speeds.knows(class, threads(engine, 1)) {
            time(class, &timing, 1, engine, &mut speeds, signal)?;
        }
    }
    speeds.write()?;
    Ok(Expected { seconds: makespan(jobs, &speeds, engine), jobs: jobs.len(), at_once: slots.min(jobs.len()) })
}

/// Notes how fast a class is done in so many slots at once.
fn time(
    class: &str,
    timing: &Timing,
    slots: usize,
    engine: &mut dyn Engine,
    speeds: &mut Speeds,
    signal: &StopSignal,
) -> Result<(), Error> {
    signal.check()?;
    let timed = engine.time(timing, slots);
    signal.check()?;
    if let Some(speed) = timed? {
        speeds.timed(class, threads(engine, slots), speed);
    }
    Ok(())
}

/// Seconds until all jobs are done, run as the runner runs them.
///
/// 1. Every job's priority is the longest way from its beginning to the end of all.
/// 2. Whenever a slot is free, the ready job of the highest priority takes it; its threads are its share of the cores
///    among the jobs that can run beside it then.
/// 3. The clock goes on to the next job's end.
fn makespan(jobs: &[Job], speeds: &Speeds, engine: &dyn Engine) -> f64 {
    let slots = engine.slots();
    let addresses: Vec<Address> = jobs.iter().map(Job::address).collect();
    let place: HashMap<&Address, usize> = addresses.iter().enumerate().map(|(i, a)| (a, i)).collect();
    let costs: Vec<_> = jobs.iter().map(Job::cost).collect();
    let seconds = |i: usize, beside: usize| speeds.seconds(&costs[i], threads(engine, beside));
    let inputs: Vec<Vec<usize>> = jobs
        .iter()
        .map(|job| {
            let known = job.inputs().into_iter().filter_map(|input| place.get(&input.address).copied());
            known.collect::<BTreeSet<_>>().into_iter().collect()
        })
        .collect();
    let mut priority: Vec<f64> = (0..jobs.len()).map(|i| seconds(i, slots)).collect();
    for i in (0..jobs.len()).rev() {
        for input in &inputs[i] {
            let own = seconds(*input, slots);
            priority[*input] = priority[*input].max(own + priority[i]);
        }
    }
    let (mut open, mut done): (Vec<usize>, HashSet<usize>) = ((0..jobs.len()).collect(), HashSet::new());
    open.sort_by(|a, b| priority[*b].total_cmp(&priority[*a]));
    let mut running: Vec<(f64, usize)> = Vec::new();
    let mut now = 0.0;
    while !open.is_empty() || !running.is_empty() {
        let is_ready = |i: &usize| inputs[*i].iter().all(|input| done.contains(input));
        let ready: Vec<usize> = open.iter().copied().filter(is_ready).collect();
        let beside = (running.len() + ready.len()).min(slots);
        for i in ready.into_iter().take(slots - running.len()) {
            running.push((now + seconds(i, beside), i));
            open.retain(|other| *other != i);
        }
        let Some(next) = running.iter().enumerate().min_by(|a, b| a.1.0.total_cmp(&b.1.0)).map(|(n, _)| n) else {
            // Inputs that are in no job's list: there is nothing to say about them.
            break;
        };
        let (end, i) = running.swap_remove(next);
        now = end;
        done.insert(i);
    }
    now
}
