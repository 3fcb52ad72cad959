//! `midtrain run`, `plan` and `status`: a study file and questions.

use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::PossibleValuesParser;
use study::{Error, Named, Study, StudySpec, question};

use crate::options::{ChangeOptions, RunOptions};
use crate::runner::{Runner, can_be_written};

const EXAMPLES: &str = "\
Examples:
  midtrain plan study.toml --question table2             what it would do and cost
  midtrain run study.toml --question table2,figure3      trains, and writes runs/study/table2 and runs/study/figure3
  midtrain status study.toml --question table2           what is done, runs, waits, failed
The study file is described in docs/study-file.md; each output directory holds its own as spec.toml. figure6 and figure9 to figure13
ask of the arm Starcoder (20%), the set Pycode and the probe APPS or C4.
Exit status: 0 done; 2 wrong usage, spec or data; 1 failed later; 130 or 143 stopped by a signal, with a checkpoint.";

/// Every question, for `--help` and completions.
fn question_names() -> PossibleValuesParser {
    PossibleValuesParser::new(study::question_names())
}

/// A study and what is asked of it.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct RunArgs {
    /// The study file.
    #[arg(value_name = "STUDY.toml")]
    study: PathBuf,
    /// What is asked, one or several.
    #[arg(long, value_name = "NAME", value_delimiter = ',', required = true, value_parser = question_names())]
    question: Vec<String>,
    #[command(flatten)]
    changes: ChangeOptions,
    #[command(flatten)]
    run: RunOptions,
}

/// The folder of a study's answers: called as its file. Every output directory has a `spec.toml`; of these the model's name tells
/// studies apart.
fn folder(file: &Path, model_name: &str) -> String {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    if stem != "spec" {
        return stem;
    }
    let plain = |c: char| if c.is_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' };
    format!("spec-{}", model_name.chars().map(plain).collect::<String>())
}

impl RunArgs {
    pub(super) fn run(mut self) -> Result<(), Error> {
        let study = self.read()?;
        let questions = self.question.iter().map(|name| question(name)).collect::<Result<Vec<_>, _>>()?;
        if questions.len() > 1 && self.run.engine == "slurm" {
            let reason = "--question: --engine slurm takes one question at a time".to_owned();
            return Err(Error::Usage { reason });
        }
        let folder = || PathBuf::from("runs").join(folder(&self.study, &study.spec().model_name));
        let out = self.run.out.take().unwrap_or_else(folder);
        // All are checked before the first one is answered.
        for (name, question) in self.question.iter().zip(&questions) {
            question.check(&study)?;
            if !self.run.print_plan && !self.run.status {
                can_be_written(&out.join(name))?;
            }
        }
        let last = questions.len() - 1;
        let mut failures = Vec::new();
        for (i, (name, question)) in self.question.iter().zip(questions).enumerate() {
            // What is taken in comes first, what is given out or freed comes last.
            let mut options = self.run.clone();
            options.import = options.import.filter(|_| i == 0);
            options.export = options.export.filter(|_| i == last);
            options.gc = options.gc.filter(|_| i == last);
            let question = &Named(name, question);
            match (Runner { options: &options, out: out.join(name), question }).run(&study) {
                // What failed in one question is said on its page; the others are answered.
                Err(Error::Failed { failures: more }) => {
                    failures.extend(more.into_iter().filter(|f| !failures.contains(f)).collect::<Vec<_>>());
                }
                done => done?,
            }
        }
        if failures.is_empty() { Ok(()) } else { Err(Error::Failed { failures }) }
    }

    pub(super) fn plan(mut self) -> Result<(), Error> {
        self.only_looks("plan")?;
        self.run.print_plan = true;
        self.run()
    }

    pub(super) fn status(mut self) -> Result<(), Error> {
        self.only_looks("status")?;
        self.run.status = true;
        self.run()
    }

    /// Options that a command which changes nothing would not follow are refused.
    fn only_looks(&self, command: &str) -> Result<(), Error> {
        let run = &self.run;
        let ignored = [
            ("--out", run.out.is_some()),
            ("--import", run.import.is_some()),
            ("--export", run.export.is_some()),
            ("--gc", run.gc.is_some()),
            ("--verify", run.verify),
            ("--status", run.status),
            ("--print-plan", run.print_plan),
        ];
        match ignored.iter().find(|(_, given)| *given) {
            Some((option, _)) => {
                Err(Error::Usage { reason: format!("{option} is for midtrain run, not for {command}") })
            }
            None => Ok(()),
        }
    }

    fn read(&self) -> Result<Study, Error> {
        self.changes.changes().apply(StudySpec::read(&self.study)?, &self.run.store)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolved_files_of_two_studies_have_folders_of_their_own() {
        assert_eq!(folder("a/tiny.toml".as_ref(), "any"), "tiny");
        assert_eq!(folder("runs/x/spec.toml".as_ref(), "my/../model"), "spec-my-..-model");
        assert_ne!(folder("a/spec.toml".as_ref(), "one"), folder("b/spec.toml".as_ref(), "two"));
    }
}
