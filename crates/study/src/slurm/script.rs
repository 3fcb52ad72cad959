//! The batch scripts.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::Error;

/// Options that the scripts set themselves: long, short.
const OWN: [(&str, &str); 8] = [
    ("--array", "-a"),
    ("--dependency", "-d"),
    ("--output", "-o"),
    ("--error", "-e"),
    ("--chdir", "-D"),
    ("--job-name", "-J"),
    ("--signal", "--signal"),
    ("--requeue", "--no-requeue"),
];

/// The option that a word of a template sets though the scripts do: spelt out, shortened, or with its value behind it.
fn own_option(word: &str) -> Option<&'static str> {
    let name = word.split('=').next().unwrap_or(word);
    let found = OWN.iter().find(|(long, short)| {
        let is_short = !short.starts_with("--") && word.starts_with(short) && !word.starts_with("--");
        name == *short || is_short || (name.len() > 4 && long.starts_with(name))
    });
    found.map(|(long, _)| *long)
}

/// Lines for all scripts: `#SBATCH` options of the cluster, then commands that prepare the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    shell: String,
    lines: String,
}

impl Default for Template {
    fn default() -> Self {
        Self { shell: "#!/bin/bash".to_owned(), lines: String::new() }
    }
}

impl Template {
    /// From a file.
    ///
    /// # Errors
    /// A file that cannot be read, an option that the scripts set themselves, one that comes after a command.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text =
            std::fs::read_to_string(path).map_err(|e| Error::Parse { path: path.to_owned(), reason: e.to_string() })?;
        Self::parse(&text, path)
    }

    fn parse(text: &str, path: &Path) -> Result<Self, Error> {
        let wrong = |line: usize, reason: String| Error::Parse {
            path: path.to_owned(),
            reason: format!("line {}: {reason}", line + 1),
        };
        let mut template = Self::default();
        let mut command = None;
        for (number, line) in text.lines().enumerate() {
            if number == 0 && line.starts_with("#!") {
                let program = line[2..].split_whitespace().next().unwrap_or_default();
                if !program.ends_with("sh") {
                    return Err(wrong(number, format!("{program} is no shell: the scripts are written for bash")));
                }
                template.shell = line.to_owned();
                continue;
            }
            if let Some(options) = line.trim_start().strip_prefix("#SBATCH") {
                if let Some(command) = command {
                    let reason = format!("#SBATCH options end at the first command, which is on line {command}");
                    return Err(wrong(number, reason));
                }
                if let Some(option) = options.split_whitespace().find_map(own_option) {
                    return Err(wrong(number, format!("{option} is set by the scripts themselves")));
                }
            } else if !line.trim().is_empty() && !line.trim_start().starts_with('#') {
                command.get_or_insert(number + 1);
            }
            template.lines += line;
            template.lines.push('\n');
        }
        Ok(template)
    }
}

/// A script that is submitted.
pub(super) struct Script<'a> {
    pub(super) template: &'a Template,
    /// What the queue shows.
    pub(super) name: String,
    /// Tasks of its array; `None` for a single job.
    pub(super) tasks: Option<usize>,
    /// Jobs or tasks that it waits for, whatever becomes of them.
    pub(super) after: Vec<String>,
    /// Where logs go.
    pub(super) logs: PathBuf,
    /// Where it runs.
    pub(super) folder: PathBuf,
    /// The program and its arguments.
    pub(super) command: Vec<String>,
}

impl Script<'_> {
    pub(super) fn text(&self) -> String {
        let mut out = format!("{}\n", self.template.shell);
        let mut option = |text: String| {
            let _ = writeln!(out, "#SBATCH {text}");
        };
        option(format!("--job-name={}", quote(&self.name)));
        let log = match self.tasks {
            Some(count) => {
                option(format!("--array=0-{}", count.saturating_sub(1)));
                "%x-%A_%a.txt"
            }
            None => "%x-%j.txt",
        };
        // A percent sign of the folder's is no placeholder.
        let log = format!("{}/{log}", self.logs.to_string_lossy().replace('%', "%%"));
        if !self.after.is_empty() {
            option(format!("--dependency=afterany:{}", self.after.join(":")));
        }
        option(format!("--output={}", quote(&log)));
        option(format!("--chdir={}", quote(&self.folder.to_string_lossy())));
        // Before its time is over it writes a checkpoint and goes to the queue again.
        option("--open-mode=append".to_owned());
        option("--requeue".to_owned());
        option("--signal=B:USR1@90".to_owned());
        out += &self.template.lines;
        let command: Vec<String> = self.command.iter().map(|word| quote(word)).collect();
        let _ = write!(
            out,
            r#"
if [ -n "${{SLURM_CPUS_PER_TASK:-}}" ]; then export RAYON_NUM_THREADS="$SLURM_CPUS_PER_TASK"; fi
# SIGUSR1: the time is nearly over. SIGTERM: it is cancelled or makes room for another job; where that reaches all processes,
# the program has it already, and the same signal again would end it at once.
set +eu
again=0
trap 'again=1; kill -TERM "$child"' USR1
trap 'kill -INT "$child"' TERM
{} &
child=$!
wait "$child"; status=$?
# A signal ends the waiting, not the program.
while kill -0 "$child" 2> /dev/null; do wait "$child"; status=$?; done
wait "$child" 2> /dev/null; last=$?; if [ "$last" != 127 ]; then status=$last; fi
if [ "$again" = 1 ] && [ "$status" = 143 ]; then
  if [ -n "$SLURM_ARRAY_JOB_ID" ]; then id="${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID"; else id="$SLURM_JOB_ID"; fi
  scontrol requeue "$id"
fi
exit "$status"
"#,
            command.join(" ")
        );
        out
    }
}

/// A word as the shell reads it back.
fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_back_as_they_were() {
        for word in ["plain-1.2/x=y", "", "a b", "it's", "$HOME", "a\nb", "*"] {
            let output = std::process::Command::new("sh").args(["-c", &format!("printf %s {}", quote(word))]).output();
            assert_eq!(String::from_utf8(output.unwrap().stdout).unwrap(), word);
        }
    }

    #[test]
    fn own_options_are_found_however_they_are_spelt() {
        for word in
            ["--array=1", "--arr", "-a0-3", "-a", "-ofile", "-Jname", "--no-requeue", "--requeue", "--signal=B:TERM"]
        {
            assert!(own_option(word).is_some(), "{word}");
        }
        for word in
            ["--account=a", "-A", "--partition=main", "-p", "--mem=1G", "--exclusive", "--gres=gpu:1", "--export=ALL"]
        {
            assert_eq!(own_option(word), None, "{word}");
        }
    }
}
