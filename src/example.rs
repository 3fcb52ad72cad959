//! What every table and figure example does around its protocol: options, data, plan, run, output.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::str::FromStr as _;

use study::{
    Args, DataSpec, Engine, Error, Keep, Page, Plan, Progress, Protocol, Question, StopSignal, Store, Study, answer,
    exit_code, export, gc, import, preflights, prepare,
};

use crate::Backend;

/// Runs an example: parses the options, prepares the data, plans, runs what the store lacks, prints and writes the answer.
pub fn run(name: &str, protocol: &Protocol<'_>, question: impl Question) -> ExitCode {
    let args = <Args as clap::Parser>::parse();
    match (Example { name, args: &args, question: &question }).run(protocol) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit_code(&error),
    }
}

struct Example<'a> {
    name: &'a str,
    args: &'a Args,
    question: &'a dyn Question,
}

impl Example<'_> {
    fn run(&self, protocol: &Protocol<'_>) -> Result<(), Error> {
        let study = self.args.study(protocol)?;
        self.question.check(&study)?;
        let engine = Backend::from_str(&self.args.backend)
            .and_then(|backend| backend.engine(self.args.checkpoint_seconds))
            .map_err(|e| Error::Usage { reason: e.to_string() })?;
        if matches!(study.spec().data, DataSpec::Stated { .. }) {
            return self.on_stated(&study);
        }
        self.on_data(&study, engine.as_ref())
    }

    /// A plan without any data; some questions are answered from it.
    fn on_stated(&self, study: &Study) -> Result<(), Error> {
        let plan = Plan::stated(self.question, study)?;
        let description = self.describe(&plan, study);
        if self.args.print_plan {
            return print(&description);
        }
        self.write(&self.question.on_stated(study, &plan)?, study, &description)
    }

    fn on_data(&self, study: &Study, engine: &dyn Engine) -> Result<(), Error> {
        let args = self.args;
        let signal = StopSignal::install().map_err(|source| Error::Io { path: "signal handlers".into(), source })?;
        let mut progress = Progress::new(args.quiet, signal);
        let store = Store::new(&args.store);
        // What is asked for at the end is checked before hours of work.
        if let Some(keep) = self.keep() {
            keep.check(&store, study, self.question.name())?;
        }
        if let Some(to) = args.export.as_ref().filter(|to| to.is_dir()) {
            return Err(Error::Usage { reason: format!("--export = {} is a directory, not a file", to.display()) });
        }
        if let Some(bundle) = &args.import {
            let report = import(&store, bundle)?;
            let (results, known) = (report.results, report.known);
            progress.note(&format!("{}: {results} results, {known} of them known", bundle.display()));
        }
        let using = store.using()?;
        let data = prepare(study, &store, engine, &mut progress)?;
        let plan = Plan::build(self.question, study, &data, &store, engine.machine())?;
        // Two steps are timed where somebody reads it and something is left to do.
        let trains = self.question.trains();
        let timed = trains && !plan.is_done() && (args.print_plan || !args.quiet);
        let speed = if timed { Some(engine.speed(study)?) } else { None };
        if args.print_plan {
            return print(&if trains { plan.describe_now(study, speed) } else { self.describe(&plan, study) });
        }
        if trains {
            progress.note(&plan.describe_now(study, speed));
        }
        let answered = answer(self.question, study, &data, &store, engine, &mut progress);
        progress.finish();
        let answered = answered?;
        self.write(&answered.page, study, &self.describe(&plan, study))?;
        drop(using);
        self.tidy(&store)?;
        if answered.failures.is_empty() { Ok(()) } else { Err(Error::Failed { failures: answered.failures }) }
    }

    /// Training is described by what it costs, data by what the arms take of them.
    fn describe(&self, plan: &Plan, study: &Study) -> String {
        if self.question.trains() { plan.describe(study) } else { preflights(study, plan) }
    }

    /// Bundles results and frees space, where that was asked for.
    fn tidy(&self, store: &Store) -> Result<(), Error> {
        if let Some(to) = &self.args.export {
            let report = export(store, &[], to)?;
            let (results, studies, bytes) = (report.results, report.studies, report.bytes);
            eprintln!("{}: {results} results of {studies} studies, {bytes} bytes", to.display());
        }
        if let Some(keep) = self.keep() {
            eprint!("{}", gc(store, &keep, self.args.gc.as_deref() == Some("list"))?);
        }
        Ok(())
    }

    /// Whose needs count when space is freed; `None` where that was not asked for.
    fn keep(&self) -> Option<Keep> {
        Some(match self.args.gc.as_deref()? {
            "list" | "studies" => Keep::Every,
            name => Keep::Named(vec![name.to_owned()]),
        })
    }

    fn write(&self, page: &Page, study: &Study, description: &str) -> Result<(), Error> {
        let out = self.args.out(self.name);
        page.write(&out, study.spec(), description)?;
        print(&page.text(std::io::stdout().is_terminal()))?;
        if !self.args.quiet {
            let figures = if page.has_figures() { "figures/, " } else { "" };
            eprintln!("\nwritten to {}: tables/, {figures}report.html, spec.toml, plan.txt", out.display());
        }
        Ok(())
    }
}

/// To standard output; a reader that went away is no failure.
fn print(text: &str) -> Result<(), Error> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::Io { path: "standard output".into(), source: e })
        }
        _ => Ok(()),
    }
}
