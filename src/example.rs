//! What every table and figure example does around its protocol: options, data, plan, run, output.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::str::FromStr as _;

use study::slurm::{self, Step, Template};
use study::{
    Answer, Args, DataSpec, Engine, Error, Failure, Keep, LocalEngine, Page, Plan, Progress, Protocol, Question,
    StopSignal, Store, Study, answer, exit_code, export, gc, import, preflights, prepare, say, verify, work,
};

use crate::Backend;
use crate::engines::{engine, fits};

/// Runs an example: parses the options, prepares the data, plans, runs what the store lacks, prints and writes the answer.
pub fn run(name: &str, protocol: &Protocol<'_>, question: impl Question) -> ExitCode {
    let args = <Args as clap::Parser>::parse();
    let done =
        if args.run_job { serve(&args) } else { (Example { name, args: &args, question: &question }).run(protocol) };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit_code(&error),
    }
}

/// How this program was called: what it submits is called the same way.
fn slurm_step() -> Result<Step, Error> {
    let io = |source| Error::Io { path: "this program".into(), source };
    let program = std::env::current_exe().map_err(io)?;
    let own = |word: &String| !word.starts_with("--slurm-plan=") && word != "--print-plan";
    let words = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).filter(own);
    let command = [program.to_string_lossy().into_owned()].into_iter().chain(words).collect();
    Ok(Step { command, folder: std::env::current_dir().map_err(io)? })
}

/// Which task of its array this is.
fn task_of_the_array() -> Result<usize, Error> {
    let value = std::env::var("SLURM_ARRAY_TASK_ID").unwrap_or_default();
    value.parse().map_err(|_| usage(format!("SLURM_ARRAY_TASK_ID = {value} must be the number of a task")))
}

/// Runs the jobs that another process of this program asks for.
fn serve(args: &Args) -> Result<(), Error> {
    let signal = install()?;
    let backend = backend(args)?;
    work(|| backend.processor(args.checkpoint_seconds).map_err(usage), &signal)
}

fn install() -> Result<StopSignal, Error> {
    StopSignal::install().map_err(|source| Error::Io { path: "signal handlers".into(), source })
}

fn backend(args: &Args) -> Result<Backend, Error> {
    Backend::from_str(&args.backend).map_err(usage)
}

fn usage(error: impl std::fmt::Display) -> Error {
    Error::Usage { reason: error.to_string() }
}

struct Example<'a> {
    name: &'a str,
    args: &'a Args,
    question: &'a dyn Question,
}

impl Example<'_> {
    fn run(&self, protocol: &Protocol<'_>) -> Result<(), Error> {
        let args = self.args;
        let study = args.study(protocol)?;
        self.question.check(&study)?;
        let backend = backend(args)?;
        if args.status {
            return print(&slurm::status(self.question, &study, &Store::new(&args.store))?);
        }
        if matches!(study.spec().data, DataSpec::Stated { .. }) {
            return self.on_stated(&study);
        }
        match (args.engine.as_str(), &args.slurm_template) {
            ("slurm", _) => self.on_slurm(&study, backend),
            (_, Some(template)) => {
                Err(usage(format!("--slurm-template = {} needs --engine slurm", template.display())))
            }
            _ => self.here(&study, backend),
        }
    }

    /// On this machine.
    fn here(&self, study: &Study, backend: Backend) -> Result<(), Error> {
        let signal = install()?;
        let mut engine = engine(self.args, backend, study, &signal)?;
        let answered = self.on_data(study, engine.as_mut(), signal)?;
        // Its processes are gone before anything is freed.
        drop(engine);
        let Some(failures) = answered else { return Ok(()) };
        self.tidy(&Store::new(&self.args.store))?;
        if failures.is_empty() { Ok(()) } else { Err(Error::Failed { failures }) }
    }

    /// On a cluster: submits the study, or is what was submitted.
    fn on_slurm(&self, study: &Study, backend: Backend) -> Result<(), Error> {
        let args = self.args;
        let template = args.slurm_template.as_deref().map_or_else(|| Ok(Template::default()), Template::read)?;
        let store = Store::new(&args.store);
        if let Some(jobs) = args.jobs {
            return Err(usage(format!(
                "--jobs = {jobs} is for --engine local: a task of a cluster runs one job at a time"
            )));
        }
        let step = slurm_step()?;
        let on_cluster = args.slurm_plan.is_some() || args.slurm_tasks.is_some();
        if args.verify {
            let remedy = "--verify needs --engine local: the same command with --print-plan verifies the store";
            return Err(Error::Usage { reason: remedy.to_owned() });
        }
        if !on_cluster && !args.print_plan {
            if let Some(bundle) = &args.import {
                import(&store, bundle)?;
            }
            let submitted = slurm::submit(self.question, study, &store, &template, &step)?;
            return print(&format!("{submitted}\n"));
        }
        let signal = install()?;
        let processor = backend.processor(args.checkpoint_seconds).map_err(usage)?;
        let mut progress = Progress::new(args.quiet, signal.clone());
        if args.print_plan {
            let machine = processor.machine();
            return print(&slurm::preview(self.question, study, &store, machine, &template, &step, &progress)?);
        }
        let mut engine = LocalEngine::new(processor, signal);
        if let Some(file) = &args.slurm_tasks {
            let place = task_of_the_array()?;
            return slurm::run_task(file, &args.slurm_members, place, &store, &mut engine, &mut progress);
        }
        let mut answered = None;
        let mut write = |answer: &Answer, engine: &mut dyn Engine, progress: &mut Progress| {
            let data = prepare(study, &store, engine, progress)?;
            let plan = Plan::build(self.question, study, &data, &store, engine.machine())?;
            answered = Some(answer.failures.clone());
            self.write(&answer.page, study, &self.describe(&plan, study))
        };
        let round = args.slurm_plan.unwrap_or(0);
        slurm::plan(round, self.question, study, &store, &template, &mut engine, &mut progress, &mut write)?;
        drop(engine);
        let Some(failures) = answered else { return Ok(()) };
        self.tidy(&store)?;
        if failures.is_empty() { Ok(()) } else { Err(Error::Failed { failures }) }
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

    /// Answers the question, or plans it: `None`. What failed.
    fn on_data(
        &self,
        study: &Study,
        engine: &mut dyn Engine,
        signal: StopSignal,
    ) -> Result<Option<Vec<Failure>>, Error> {
        let args = self.args;
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
        let mut data = prepare(study, &store, engine, &mut progress)?;
        if args.verify {
            let verified = verify(self.question, study, &data, &store, engine.machine())?;
            progress.note(&format!("verified: {verified}"));
            if !verified.damaged.is_empty() {
                data = prepare(study, &store, engine, &mut progress)?;
            }
        }
        let plan = Plan::build(self.question, study, &data, &store, engine.machine())?;
        let trains = self.question.trains();
        // Before anything is measured: what that takes of the device's memory stays taken.
        let memory =
            if trains { fits(study, backend(args)?)?.map(|line| line + "\n") } else { None }.unwrap_or_default();
        // Speeds that are not known are measured where somebody reads them.
        let expected = if trains && (args.print_plan || !args.quiet) {
            plan.expected(study, &store, engine, &progress.signal)?
        } else {
            None
        };
        if args.print_plan {
            print(&if trains { plan.describe_now(study, expected) + &memory } else { self.describe(&plan, study) })?;
            return Ok(None);
        }
        if trains {
            progress.note(&(plan.describe_now(study, expected) + &memory));
        }
        let answered = answer(self.question, study, &data, &store, engine, &mut progress);
        progress.finish();
        let answered = answered?;
        self.write(&answered.page, study, &self.describe(&plan, study))?;
        drop(using);
        Ok(Some(answered.failures))
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
            say(&format!("{}: {results} results of {studies} studies, {bytes} bytes", to.display()));
        }
        if let Some(keep) = self.keep() {
            say(gc(store, &keep, self.args.gc.as_deref() == Some("list"))?.to_string().trim_end());
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
            say(&format!("\nwritten to {}: tables/, {figures}report.html, spec.toml, plan.txt", out.display()));
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
