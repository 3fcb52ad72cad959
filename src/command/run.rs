//! `midtrain run`, `plan` and `status`: a study file and questions.

use std::path::PathBuf;

use clap::Args;
use study::{Error, Named, Study, StudySpec, question};

use crate::options::{ChangeOptions, RunOptions};
use crate::runner::Runner;

const EXAMPLES: &str = "\
Examples:
  midtrain plan study.toml --question table2             what it would do and cost
  midtrain run study.toml --question table2,figure3      trains, and writes runs/study/table2 and runs/study/figure3
  midtrain status study.toml --question table2           what is done, runs, waits, failed
The study file is described in docs/study-file.md; each output directory holds its own as spec.toml.";

/// A study and what is asked of it.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct RunArgs {
    /// The study file.
    #[arg(value_name = "STUDY.toml")]
    study: PathBuf,
    /// What is asked: table1, table2, table5, figure2, figure3, figure6, figure7, figure9 to figure13, theory.
    #[arg(long, value_name = "NAME", value_delimiter = ',', required = true)]
    question: Vec<String>,
    #[command(flatten)]
    changes: ChangeOptions,
    #[command(flatten)]
    run: RunOptions,
}

impl RunArgs {
    pub(super) fn run(mut self) -> Result<(), Error> {
        let study = self.read()?;
        let questions = self.question.iter().map(|name| question(name)).collect::<Result<Vec<_>, _>>()?;
        if questions.len() > 1 && self.run.engine == "slurm" {
            let reason = "--question: --engine slurm takes one question at a time".to_owned();
            return Err(Error::Usage { reason });
        }
        // All are checked before the first one is answered.
        questions.iter().try_for_each(|q| q.check(&study))?;
        let stem = self.study.file_stem().unwrap_or_default();
        let out = self.run.out.take().unwrap_or_else(|| PathBuf::from("runs").join(stem));
        for (name, question) in self.question.iter().zip(questions) {
            let question = &Named(name, question);
            Runner { options: &self.run, out: out.join(name), question }.run(&study)?;
        }
        Ok(())
    }

    pub(super) fn plan(mut self) -> Result<(), Error> {
        self.run.print_plan = true;
        self.run()
    }

    pub(super) fn status(mut self) -> Result<(), Error> {
        self.run.status = true;
        self.run()
    }

    fn read(&self) -> Result<Study, Error> {
        self.changes.changes().apply(StudySpec::read(&self.study)?, &self.run.store)
    }
}
