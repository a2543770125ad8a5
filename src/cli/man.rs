//! `keyhatch man`

use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory as _};

use super::context::Context;
use super::error::{CommandError, DONE, Outcome};

/// Print the manual page, or write one for each command
///
/// Examples:
///
///   keyhatch man | man -l -
///   keyhatch man --dir ~/.local/share/man/man1
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct ManArgs {
    /// Write keyhatch.1, keyhatch-run.1, ... into this directory
    #[arg(long, value_name = "D")]
    dir: Option<PathBuf>,
}

pub(super) fn run(ctx: &Context, args: &ManArgs) -> Outcome {
    let mut root = super::Cli::command().disable_help_subcommand(true);
    root.build();
    match &args.dir {
        None => ctx.out.data(&page(&root)?)?,
        Some(dir) => {
            std::fs::create_dir_all(dir).map_err(CommandError::doing(format!("{} cannot be made", dir.display())))?;
            write_all(&root, "keyhatch", dir)?;
        }
    }
    DONE
}

/// A page for the command and for each one below it: `keyhatch-credential-add.1`.
fn write_all(command: &clap::Command, name: &str, dir: &Path) -> Result<(), CommandError> {
    let file = dir.join(format!("{name}.1"));
    // clap_mangen takes static names; a manual is written once in a process's life.
    let title: &'static str = name.to_owned().leak();
    std::fs::write(&file, page(&command.clone().name(title).display_name(title))?)
        .map_err(CommandError::doing(format!("{} cannot be written", file.display())))?;
    command.get_subcommands().filter(|c| !c.is_hide_set()).try_for_each(|c| write_all(c, &format!("{name}-{}", c.get_name()), dir))
}

fn page(command: &clap::Command) -> Result<Vec<u8>, CommandError> {
    let mut text = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut text).map_err(CommandError::doing("the page cannot be made"))?;
    Ok(text)
}
