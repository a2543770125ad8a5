//! The command line: one command, one file, whose doc comment is its `--help`.

mod agent;
mod agent_env;
mod audit;
mod base;
mod ca;
mod completions;
mod context;
mod credential;
mod demo;
mod doctor;
mod env;
mod error;
mod init;
mod man;
mod output;
mod parse;
mod policy;
mod run;
mod serve;
mod session;
mod source;
mod store;
#[cfg(test)]
mod tests;
mod vault;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use context::Context;
use error::Outcome;
use output::Output;

use crate::process;

/// Keep keys out of the hands of the programs that need them
///
/// Keyhatch is a credential vault with a forward proxy in front of it. An operator puts a key
/// in once. An untrusted program (an AI agent, a build, a script) is given only HTTPS_PROXY.
/// On its way out, a request to one of the key's own hosts picks the key up; no other does,
/// and the key never travels back.
///
/// Examples:
///
///   keyhatch init
///   keyhatch credential add openrouter < key.txt
///   keyhatch run -- python agent.py
///
/// Exit codes: 0 done, 1 failed, 2 bad usage or configuration, 3 locked or wrong passphrase,
/// 4 no such thing; `run` exits as its command did.
#[derive(Debug, Parser)]
#[command(name = "keyhatch", version, verbatim_doc_comment, subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

/// Options that every command takes.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Globals {
    /// The home directory [default: $KEYHATCH_HOME, else $XDG_DATA_HOME/keyhatch, else ~/.local/share/keyhatch]
    #[arg(long, global = true, value_name = "DIR", help_heading = "Global options")]
    home: Option<PathBuf>,
    /// The configuration file [default: $KEYHATCH_CONFIG, else keyhatch.toml in the home]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    config: Option<PathBuf>,
    /// The file that holds the passphrase; one newline at its end is cut
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    passphrase_file: Option<PathBuf>,
    /// Print lists, results and errors as JSON
    #[arg(long, global = true, help_heading = "Global options")]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    Init(init::InitArgs),
    Serve(serve::ServeArgs),
    Run(run::RunArgs),
    Env(env::EnvArgs),
    Demo(demo::DemoArgs),
    Doctor(doctor::DoctorArgs),
    #[command(subcommand)]
    Credential(credential::CredentialCommand),
    #[command(subcommand)]
    Agent(agent::AgentCommand),
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    #[command(subcommand)]
    Ca(ca::CaCommand),
    #[command(subcommand)]
    Store(store::StoreCommand),
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    Completions(completions::CompletionsArgs),
    Man(man::ManArgs),
}

/// The agent that `init` makes, and that `run` and `env` mean where none is named.
const DEFAULT_AGENT: &str = "default";

/// Reads the command line, carries the command out, and says what the process exits with.
pub fn main() -> ExitCode {
    // Any command may come to hold a secret: one that is typed, one of the store's.
    process::hide_memory();
    let args: Vec<_> = std::env::args_os().collect();
    // The demo's own child is no command for people: no help, no completion, no manual page.
    if let [_, word, authority] = args.as_slice()
        && word == "demo-child"
    {
        return demo::child(Path::new(authority));
    }
    let cli = match parse::parse(&args) {
        Ok(cli) => cli,
        Err(ended) => return ended,
    };
    let ctx = Context::new(cli.globals);
    dispatch(&ctx, cli.command).unwrap_or_else(|e| {
        ctx.out.error(&e);
        ExitCode::from(e.code())
    })
}

fn dispatch(ctx: &Context, command: Command) -> Outcome {
    match command {
        Command::Init(args) => init::run(ctx, &args),
        Command::Serve(args) => serve::run(ctx, &args),
        Command::Run(args) => run::run(ctx, &args),
        Command::Env(args) => env::run(ctx, &args),
        Command::Demo(args) => demo::run(ctx, &args),
        Command::Doctor(args) => doctor::run(ctx, &args),
        Command::Credential(command) => credential::run(ctx, command),
        Command::Agent(command) => agent::run(ctx, command),
        Command::Policy(command) => policy::run(ctx, command),
        Command::Ca(command) => ca::run(ctx, command),
        Command::Store(command) => store::run(ctx, command),
        Command::Audit(command) => audit::run(ctx, command),
        Command::Completions(args) => completions::run(ctx, &args),
        Command::Man(args) => man::run(ctx, &args),
    }
}

/// What is written to standard output before a context exists.
fn plain_output(json: bool) -> Output {
    Output { json }
}
