//! How a page was computed: its data, every job that it rests on, where its result lies, and what computed it.

use report::{Column, Page, Table};

use crate::graph::Graph;
use crate::job::Job;
use crate::{Error, Machine, datasheet};

/// A job of the page.
struct Row {
    job: Job,
    /// `None` of a job that failed or computes nothing of its own.
    machine: Option<Machine>,
    /// Of a training state: the digest of all that was trained on.
    ledger: Option<String>,
}

/// Adds the data and the jobs to a page; where results of several classes of machine stand on it, it says so.
pub(crate) fn tell(page: &mut Page, graph: &Graph<'_>, jobs: Vec<Job>) -> Result<(), Error> {
    let mut rows = Vec::new();
    page.details.extend(datasheet::tables(graph.study(), graph.data()));
    let mut jobs = jobs;
    jobs.extend(graph.data_jobs());
    jobs.sort_by_key(|job| job.address().kind().to_owned());
    jobs.dedup_by_key(|job| job.address());
    for job in jobs {
        let machine = graph.computed_by(&job.address())?;
        let ledger = match &job {
            Job::Pretrain(state) => graph.outcome(state)?.ok().map(|done| format!("{:016x}", done.ledger.0)),
            _ => None,
        };
        rows.push(Row { job, machine, ledger });
    }
    page.details.push(table(&rows));
    let machines = graph.machines()?;
    if machines.len() > 1 {
        page.notes.push(format!(
            "Computed on machines whose matrix products differ in the last bits: {}. The table of jobs names each job's own.",
            machines.join("; ")
        ));
    }
    Ok(())
}

fn table(rows: &[Row]) -> Table {
    let of = |name: &str, value: fn(&Machine) -> &str| {
        Column::text(name, rows.iter().map(move |r| r.machine.as_ref().map_or("", value)))
    };
    Table::new("jobs", "Every job behind this page: its folder below the store, and what computed it")
        .with(Column::text("kind", rows.iter().map(|r| r.job.address().kind().to_owned())))
        .with(Column::text("job", rows.iter().map(|r| r.job.label())))
        .with(Column::text("address", rows.iter().map(|r| r.job.address().to_string())))
        .with(
            Column::text("ledger", rows.iter().map(|r| r.ledger.as_deref().unwrap_or("")))
                .meaning("digest of the batches that a training state has seen"),
        )
        .with(of("program", |m| &m.program).heading("version"))
        .with(of("backend", |m| &m.backend))
        .with(of("kernels", |m| &m.kernels).meaning("class of the processor's matrix products"))
        .grouped()
}
