//! `midtrain completions` and `midtrain man`: what shells and manuals know of this command.

use std::path::PathBuf;

use clap::{Args, Command};
use clap_complete::Shell;

use crate::Error;

/// A shell.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  midtrain completions bash > ~/.local/share/bash-completion/completions/midtrain")]
pub(super) struct CompletionsArgs {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

impl CompletionsArgs {
    pub(super) fn run(self, command: &mut Command) -> String {
        let mut out = Vec::new();
        clap_complete::generate(self.shell, command, "midtrain", &mut out);
        String::from_utf8_lossy(&out).into_owned()
    }
}

/// Where pages go.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  midtrain man ~/.local/share/man/man1 && man midtrain-run")]
pub(super) struct ManArgs {
    /// The folder.
    dir: PathBuf,
}

impl ManArgs {
    pub(super) fn run(self, command: Command) -> Result<(), Error> {
        std::fs::create_dir_all(&self.dir).map_err(Error::io(&self.dir))?;
        clap_mangen::generate_to(command, &self.dir).map_err(Error::io(&self.dir))
    }
}
