//! `keyhatch completions`

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::context::Context;
use super::error::{DONE, Outcome};

/// Print completions for a shell
///
/// Examples:
///
///   keyhatch completions bash > ~/.local/share/bash-completion/completions/keyhatch
///   keyhatch completions zsh > ~/.zfunc/_keyhatch
///   keyhatch completions fish > ~/.config/fish/completions/keyhatch.fish
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

pub(super) fn run(ctx: &Context, args: &CompletionsArgs) -> Outcome {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut super::Cli::command(), "keyhatch", &mut text);
    ctx.out.data(&text)?;
    DONE
}
