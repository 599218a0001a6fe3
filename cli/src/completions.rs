//! Completion scripts of shells.

use crate::args::Cli;
use crate::output;
use anyhow::Result;
use clap::CommandFactory;
use clap_complete::{Shell, generate};

const AFTER: &str = "\
Examples:
  causeway completions bash > /etc/bash_completion.d/causeway
  causeway completions zsh > \"${fpath[1]}/_causeway\"
  causeway completions fish > ~/.config/fish/completions/causeway.fish";

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER)]
pub(crate) struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

impl Args {
    pub(crate) fn run(&self) -> Result<()> {
        output::say(&script(self.shell))
    }
}

fn script(shell: Shell) -> String {
    let mut script = Vec::new();
    generate(shell, &mut Cli::command(), "causeway", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    #[test]
    fn every_shell_completes_the_commands() {
        for &shell in Shell::value_variants() {
            let script = script(shell);
            for word in ["gateway", "invite", "completions"] {
                assert!(script.contains(word), "{shell}: {word}");
            }
        }
    }
}
