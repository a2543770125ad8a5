//! `keyhatch run`

mod child;

use std::ffi::OsString;

use clap::Args;

/// Run a command with the proxy, the CA and placeholder keys in its environment
///
/// With a running `serve` no passphrase is needed; without one, this unlocks the store and runs
/// a proxy of its own on a free port for the life of the command. Signals are passed on, and
/// the exit code is the command's (127: not found, 126: cannot be run, 128+n: ended by signal n).
///
/// The command's environment holds no KEYHATCH_*, VAULT_* and provider variables, and none with
/// a stored secret in it. That keeps keys from a well-behaved command only: under your own user
/// it could still read the key file or ask admin.sock as you can. Where that matters, run the
/// agent under another user or in a container, and give it the output of `keyhatch env`.
///
/// Examples:
///
///   keyhatch run -- python agent.py
///   keyhatch run --agent builder -- make release
///   keyhatch run claude
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct RunArgs {
    /// The agent whose grants count
    #[arg(long, value_name = "A", default_value = "default")]
    agent: String,
    /// The command and its arguments
    #[arg(value_name = "CMD", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}
