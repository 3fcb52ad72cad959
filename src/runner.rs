//! What every table and figure does around its question: data, plan, run, output.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr as _;

use atomic_file::AtomicFile;
use clap::Parser as _;
use report::Page;
use study::protocol::Protocol;
use study::slurm::{self, Step, Template};
use study::{
    Answer, DataSpec, Engine, Error, Failure, Keep, LocalEngine, Named, Plan, Progress, Question, StopSignal, Store,
    Study, answer, export, gc, import, preflights, prepare, verify, work,
};

use crate::Backend;
use crate::engines::{RUN_JOB, engine, fits};
use crate::options::{ExampleOptions, RunOptions, WorkerOptions};
use crate::terminal::{Terminal, exit, print, say, trace};

/// Columns of a terminal that pages are laid out for.
const WIDTH: u16 = 80;

/// Runs an example: parses the options, prepares the data, plans, runs what the store lacks, prints the answer and writes it
/// under `name`.
pub fn run(name: &str, protocol: &Protocol<'_>, question: impl Question) -> ExitCode {
    if let Some(code) = serve() {
        return code;
    }
    let options = ExampleOptions::parse();
    let example = || {
        let study = options.study(protocol)?;
        Runner { options: &options.run, out: options.out(name), question: &Named(name, &question) }.run(&study)
    };
    exit(example())
}

/// Runs the jobs that another process of this program asks for, if that is what this process was started for.
pub(crate) fn serve() -> Option<ExitCode> {
    trace();
    let mut words = std::env::args_os();
    let program = words.next()?;
    if words.next()? != RUN_JOB {
        return None;
    }
    let options = WorkerOptions::parse_from([program].into_iter().chain(words));
    let work = || {
        let signal = install()?;
        let backend = Backend::from_str(&options.backend).map_err(usage)?;
        work(|| backend.processor(options.checkpoint_seconds).map_err(usage), &signal)
    };
    Some(exit(work()))
}

/// How this program was called: what it submits is called the same way.
fn slurm_step() -> Result<Step, Error> {
    let io = |source| Error::Io { path: "this program".into(), source };
    let program = std::env::current_exe().map_err(io)?;
    let own = |word: &String| !word.starts_with("--slurm-plan=") && word != "--print-plan";
    let words = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).filter(own);
    // `midtrain plan` shows what `midtrain run` would submit.
    let words = words.enumerate().map(|(i, word)| if i == 0 && word == "plan" { "run".to_owned() } else { word });
    let command = [program.to_string_lossy().into_owned()].into_iter().chain(words).collect();
    Ok(Step { command, folder: std::env::current_dir().map_err(io)? })
}

/// Which task of its array this is.
fn task_of_the_array() -> Result<usize, Error> {
    let value = std::env::var("SLURM_ARRAY_TASK_ID").unwrap_or_default();
    value.parse().map_err(|_| usage(format!("SLURM_ARRAY_TASK_ID = {value} must be the number of a task")))
}

fn install() -> Result<StopSignal, Error> {
    StopSignal::install().map_err(|source| Error::Io { path: "signal handlers".into(), source })
}

fn backend(options: &RunOptions) -> Result<Backend, Error> {
    Backend::from_str(&options.backend).map_err(usage)
}

fn usage(error: impl std::fmt::Display) -> Error {
    Error::Usage { reason: error.to_string() }
}

/// A question, and where and how it is answered.
pub(crate) struct Runner<'a> {
    pub(crate) options: &'a RunOptions,
    /// The output directory.
    pub(crate) out: PathBuf,
    pub(crate) question: &'a dyn Question,
}

impl Runner<'_> {
    /// Answers the question of a study, or does what the options ask for instead.
    pub(crate) fn run(&self, study: &Study) -> Result<(), Error> {
        let options = self.options;
        self.question.check(study)?;
        let backend = backend(options)?;
        if options.status {
            return print(&slurm::status(self.question, study, &Store::new(&options.store))?);
        }
        if !options.print_plan {
            can_be_written(&self.out)?;
        }
        if matches!(study.spec().data, DataSpec::Stated { .. }) {
            return self.on_stated(study);
        }
        match (options.engine.as_str(), &options.slurm_template) {
            ("slurm", _) => self.on_slurm(study, backend),
            (_, Some(template)) => {
                Err(usage(format!("--slurm-template = {} needs --engine slurm", template.display())))
            }
            _ => self.here(study, backend),
        }
    }

    /// On this machine.
    fn here(&self, study: &Study, backend: Backend) -> Result<(), Error> {
        let signal = install()?;
        let mut engine = engine(self.options, backend, study, &signal)?;
        let answered = self.on_data(study, engine.as_mut(), signal)?;
        // Its processes are gone before anything is freed.
        drop(engine);
        let Some(failures) = answered else { return Ok(()) };
        self.tidy(&Store::new(&self.options.store))?;
        if failures.is_empty() { Ok(()) } else { Err(Error::Failed { failures }) }
    }

    /// On a cluster: submits the study, or is what was submitted.
    fn on_slurm(&self, study: &Study, backend: Backend) -> Result<(), Error> {
        let options = self.options;
        let template = options.slurm_template.as_deref().map_or_else(|| Ok(Template::default()), Template::read)?;
        let store = Store::new(&options.store);
        if let Some(jobs) = options.jobs {
            return Err(usage(format!(
                "--jobs = {jobs} is for --engine local: a task of a cluster runs one job at a time"
            )));
        }
        let step = slurm_step()?;
        let on_cluster = options.slurm_plan.is_some() || options.slurm_tasks.is_some();
        if options.verify {
            let remedy = "--verify needs --engine local: the same command with --print-plan verifies the store";
            return Err(Error::Usage { reason: remedy.to_owned() });
        }
        if !on_cluster && !options.print_plan {
            if let Some(bundle) = &options.import {
                import(&store, bundle)?;
            }
            let submitted = slurm::submit(self.question, study, &store, &template, &step)?;
            return print(&format!("{submitted}\n"));
        }
        let signal = install()?;
        let processor = backend.processor(options.checkpoint_seconds).map_err(usage)?;
        let mut progress = Progress::new(Terminal::new(options.quiet), signal.clone());
        if options.print_plan {
            let machine = processor.machine();
            return print(&slurm::preview(self.question, study, &store, machine, &template, &step, &progress)?);
        }
        let mut engine = LocalEngine::new(processor, signal);
        if let Some(file) = &options.slurm_tasks {
            let place = task_of_the_array()?;
            return slurm::run_task(file, &options.slurm_members, place, &store, &mut engine, &mut progress);
        }
        let mut answered = None;
        let mut write = |answer: &Answer, engine: &mut dyn Engine, progress: &mut Progress| {
            let data = prepare(study, &store, engine, progress)?;
            let plan = Plan::build(self.question, study, &data, &store, engine.machine())?;
            answered = Some(answer.failures.clone());
            self.write(answer.page.clone(), study, self.describe(&plan, study))
        };
        let round = options.slurm_plan.unwrap_or(0);
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
        if self.options.print_plan {
            return print(&description);
        }
        self.write(self.question.on_stated(self.question.name(), study, &plan)?, study, description)
    }

    /// Answers the question, or plans it: `None`. What failed.
    fn on_data(
        &self,
        study: &Study,
        engine: &mut dyn Engine,
        signal: StopSignal,
    ) -> Result<Option<Vec<Failure>>, Error> {
        let options = self.options;
        let mut progress = Progress::new(Terminal::new(options.quiet), signal);
        let store = Store::new(&options.store);
        // What is asked for at the end is checked before hours of work.
        if let Some(keep) = self.keep() {
            keep.check(&store, study, self.question.name())?;
        }
        if let Some(to) = options.export.as_ref().filter(|to| to.is_dir()) {
            return Err(Error::Usage { reason: format!("--export = {} is a directory, not a file", to.display()) });
        }
        if let Some(bundle) = &options.import {
            let report = import(&store, bundle)?;
            let (results, known) = (report.results, report.known);
            progress.note(&format!("{}: {results} results, {known} of them known", bundle.display()));
        }
        let using = store.using()?;
        let prepared = prepare(study, &store, engine, &mut progress);
        progress.finish();
        let mut data = prepared?;
        if options.verify {
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
            if trains { fits(study, backend(options)?)?.map(|line| line + "\n") } else { None }.unwrap_or_default();
        // Speeds that are not known are measured where somebody reads them.
        let expected = if trains && (options.print_plan || !options.quiet) {
            plan.expected(study, &store, engine, &progress.signal)?
        } else {
            None
        };
        if options.print_plan {
            print(&if trains { plan.describe_now(study, expected) + &memory } else { self.describe(&plan, study) })?;
            return Ok(None);
        }
        if trains {
            progress.note(&(plan.describe_now(study, expected) + &memory));
        }
        let answered = answer(self.question, study, &data, &store, engine, &mut progress);
        progress.finish();
        let answered = answered?;
        self.write(answered.page, study, self.describe(&plan, study))?;
        drop(using);
        Ok(Some(answered.failures))
    }

    /// Training is described by what it costs, data by what the arms take of them.
    fn describe(&self, plan: &Plan, study: &Study) -> String {
        if self.question.trains() { plan.describe(study) } else { plan.describe_data(study) + &preflights(study, plan) }
    }

    /// Bundles results and frees space, where that was asked for.
    fn tidy(&self, store: &Store) -> Result<(), Error> {
        if let Some(to) = &self.options.export {
            let report = export(store, &[], to)?;
            let (results, studies, bytes) = (report.results, report.studies, report.bytes);
            say(&format!("{}: {results} results of {studies} studies, {bytes} bytes", to.display()));
        }
        if let Some(keep) = self.keep() {
            say(gc(store, &keep, self.options.gc.as_deref() == Some("list"))?.to_string().trim_end());
        }
        Ok(())
    }

    /// Whose needs count when space is freed; `None` where that was not asked for.
    fn keep(&self) -> Option<Keep> {
        Some(match self.options.gc.as_deref()? {
            "list" | "studies" => Keep::Every,
            name => Keep::Named(vec![name.to_owned()]),
        })
    }

    /// Prints the page, and writes it with how it was computed.
    fn write(&self, mut page: Page, study: &Study, description: String) -> Result<(), Error> {
        page.attach("spec.toml", "The study", study.spec().to_toml()?);
        page.attach("plan.txt", "What it took", description);
        page.write(&self.out)?;
        print(&page.text(WIDTH))?;
        if !self.options.quiet {
            say(&format!("\nwritten to {}: report.html and its files", self.out.display()));
        }
        Ok(())
    }
}

/// An output directory that cannot be written is found before anything is trained; nothing is left behind.
pub(crate) fn can_be_written(out: &Path) -> Result<(), Error> {
    let there = out.ancestors().find(|path| path.exists() || path.as_os_str().is_empty()).unwrap_or(out);
    let within =
        if there.is_dir() || there.as_os_str().is_empty() { there.join("report.html") } else { out.to_owned() };
    let file =
        if there.is_file() { Err(ErrorKind::NotADirectory.into()) } else { AtomicFile::create(&within).map(drop) };
    file.map_err(|e| Error::Field {
        field: "--out".to_owned(),
        value: out.display().to_string(),
        limit: format!("cannot be written: {e}"),
    })
}
