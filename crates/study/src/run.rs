//! Answering a question about a study: its jobs are run in rounds, until every one is done or cannot be.

use std::collections::BTreeMap;

use crate::address::Address;
use crate::data::Data;
use crate::graph::Graph;
use crate::provenance;
use crate::question::Question;
use crate::runner::Runner;
use crate::store::{Failure, Root, Status, Store};
use crate::{Engine, Error, Progress, Study};
use report::Page;

/// Answers a question: runs what the store lacks, round by round, until every job that the question needs is done or
/// cannot be.
///
/// A job that fails loses only what depends on it: the page says what is missing, and [`Answer::failures`] why.
///
/// # Errors
/// A study that the question cannot be asked of, a store that cannot be read or written, a signal.
pub fn answer(
    question: &dyn Question,
    study: &Study,
    data: &Data,
    store: &Store,
    engine: &mut dyn Engine,
    progress: &mut Progress,
) -> Result<Answer, Error> {
    answer_knowing(question, study, data, store, engine, progress, BTreeMap::new())
}

/// The same where it is known of some jobs that they cannot be done.
pub(crate) fn answer_knowing(
    question: &dyn Question,
    study: &Study,
    data: &Data,
    store: &Store,
    engine: &mut dyn Engine,
    progress: &mut Progress,
    failures: BTreeMap<Address, Failure>,
) -> Result<Answer, Error> {
    let _using = store.using()?;
    let machine = engine.machine().clone();
    let mut runner = Runner::new(store, engine, progress)?;
    runner.failures = failures;
    runner.progress.begin();
    loop {
        let failures = runner.failures.clone();
        let mut graph = Graph::new(study, data, store, &machine, &failures);
        question.needs(&mut graph)?;
        let jobs = graph.jobs();
        Root::write(store, study, question.name(), data, &graph)?;
        if jobs.iter().all(|job| runner.is_settled(&job.address())) {
            let mut page = question.answer(question.name(), &mut graph)?;
            provenance::tell(&mut page, &graph, jobs)?;
            return Ok(Answer { page, failures: graph.failures_that_matter() });
        }
        // Jobs of later rounds, as far as they can be foreseen, count in what is left.
        let mut foreseen = Graph::new(study, data, store, &machine, &failures).guessing();
        question.needs(&mut foreseen)?;
        let mut left = Vec::new();
        for job in foreseen.jobs() {
            if !matches!(job.status(store)?, Status::Done { .. } | Status::Failed(_)) {
                left.push(job);
            }
        }
        runner.expect_only(&left);
        runner.complete(&jobs)?;
    }
}

/// What a question's answer is.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The page.
    pub page: Page,
    /// Why something on it is missing: each failed job once.
    pub failures: Vec<Failure>,
}

/// Runs a job by its address alone, with what it depends on.
///
/// # Errors
/// No such job, work that failed, a signal.
pub fn run_job(
    address: &Address,
    store: &Store,
    engine: &mut dyn Engine,
    progress: &mut Progress,
) -> Result<(), Error> {
    let _using = store.using()?;
    let mut jobs = vec![store.job(address)?];
    let mut at = 0;
    // Everything it needs, as far as the store knows it.
    while at < jobs.len() {
        let described = jobs[at].describes();
        for input in jobs[at].inputs() {
            if !jobs.iter().any(|job| job.address() == input.address) {
                let own = described.iter().find(|job| job.address() == input.address).cloned();
                jobs.push(own.map_or_else(|| store.job(&input.address), Ok)?);
            }
        }
        at += 1;
    }
    jobs.reverse();
    let mut runner = Runner::new(store, engine, progress)?;
    runner.complete(&jobs)?;
    let failures = runner.roots_of_failures();
    if failures.is_empty() { Ok(()) } else { Err(Error::Failed { failures }) }
}
