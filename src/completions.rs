//! `watershed completions`: a script that teaches a shell to complete Watershed's command line.

use anyhow::Result;
use clap_complete::Shell;

/// Print a completion script for your shell
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  watershed completions bash > ~/.local/share/bash-completion/completions/watershed
  watershed completions zsh > \"${fpath[1]}/_watershed\"
  watershed completions fish > ~/.config/fish/completions/watershed.fish")]
pub struct Args {
    /// Which shell
    shell: Shell,
}

/// Prints the script.
pub fn run(args: &Args, command: &mut clap::Command) -> Result<u8> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, command, "watershed", &mut script);
    match std::io::Write::write_all(&mut std::io::stdout(), &script) {
        // Its reader has seen enough.
        Err(why) if why.kind() == std::io::ErrorKind::BrokenPipe => Ok(0),
        written => Ok(written.map(|()| 0)?),
    }
}
