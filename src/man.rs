//! `watershed man`: the manual pages, for whoever packs or installs the binary.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

/// Write manual pages: one of the program, one of each command
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  watershed man ~/.local/share/man/man1")]
pub struct Args {
    /// The folder they are written to; made if it is not there
    folder: PathBuf,
}

/// Writes the pages.
pub fn run(args: &Args, command: clap::Command) -> Result<u8> {
    let written = std::fs::create_dir_all(&args.folder).and_then(|()| clap_mangen::generate_to(command, &args.folder));
    written.with_context(|| format!("cannot write manual pages to {}", args.folder.display()))?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_has_a_page_and_the_first_one_tells_of_settings() {
        let folder = tempfile::tempdir().unwrap();
        let args = Args { folder: folder.path().join("man1") };
        let command = crate::whole_command();
        assert_eq!(run(&args, command.clone()).unwrap(), 0);
        let page = |name: &str| std::fs::read_to_string(args.folder.join(format!("{name}.1"))).unwrap();
        assert!(page("watershed").contains("WATERSHED_WAREHOUSE"));
        for subcommand in command.get_subcommands() {
            assert!(page(&format!("watershed-{}", subcommand.get_name())).contains(".SH SYNOPSIS"), "{}", subcommand.get_name());
        }
        let error = run(&Args { folder: "/dev/null/man1".into() }, command).unwrap_err().to_string();
        assert_eq!(error, "cannot write manual pages to /dev/null/man1");
    }
}
