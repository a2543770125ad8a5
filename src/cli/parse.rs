//! clap's answer as ours: one line, exit code 2, and nothing repeated that may be a secret given in a wrong place.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser as _;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::error::CommandError;
use super::{Cli, plain_output};

/// Reads the command line; `Err` is what the process exits with.
pub(super) fn parse(args: &[OsString]) -> Result<Cli, ExitCode> {
    Cli::try_parse_from(args).map_err(|e| {
        let out = plain_output(asks_for_json(args));
        match e.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                let _ = e.print();
                ExitCode::SUCCESS
            }
            // Nothing was asked for: the help is the mend.
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand if !out.json => {
                let _ = e.print();
                ExitCode::from(2)
            }
            _ => {
                out.error(&one_line(&e, args));
                ExitCode::from(2)
            }
        }
    })
}

/// `--json` before any `--`; what comes after belongs to a command under `run`.
fn asks_for_json(args: &[OsString]) -> bool {
    args.iter().take_while(|a| *a != "--").any(|a| a == "--json")
}

fn one_line(e: &clap::Error, args: &[OsString]) -> CommandError {
    let message = match e.kind() {
        // A positional argument too many may well be the secret itself.
        ErrorKind::UnknownArgument => match e.get(ContextKind::InvalidArg) {
            Some(ContextValue::String(arg)) if arg.starts_with('-') => {
                let name = arg.split('=').next().unwrap_or(arg);
                let similar = match e.get(ContextKind::SuggestedArg) {
                    Some(ContextValue::String(s)) => format!(" (did you mean {s}?)"),
                    _ => String::new(),
                };
                format!("there is no option {name} here{similar}")
            }
            _ => "there is an argument too many (not shown, since it may be a secret: those are never taken from arguments)".to_owned(),
        },
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => "a command is missing".to_owned(),
        _ => first_paragraph(&e.render().to_string()),
    };
    let command = command_words(args);
    CommandError::usage(message).hint(format!("see `keyhatch {command}--help`"))
}

/// clap's text without `error: ` and without what follows the first empty line, but for its tips.
fn first_paragraph(text: &str) -> String {
    let lines = text.lines().map(str::trim);
    let body: Vec<&str> = lines.clone().take_while(|l| !l.is_empty()).collect();
    let tips = lines.filter(|l| l.starts_with("tip: ")).map(|l| format!(" ({})", &l["tip: ".len()..]));
    let body = body.join(" ");
    format!("{}{}", body.strip_prefix("error: ").unwrap_or(&body), tips.collect::<String>())
}

/// The subcommands that were named, each with a space after it.
fn command_words(args: &[OsString]) -> String {
    use clap::CommandFactory as _;
    let mut command = Cli::command();
    let mut words = String::new();
    for arg in args.iter().skip(1).filter_map(|a| a.to_str()) {
        let Some(next) = command.find_subcommand(arg).filter(|c| !c.is_hide_set()).cloned() else { continue };
        words.push_str(next.get_name());
        words.push(' ');
        command = next;
        if !command.has_subcommands() {
            break;
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(line: &[&str]) -> String {
        let args: Vec<OsString> = std::iter::once("keyhatch").chain(line.iter().copied()).map(OsString::from).collect();
        let e = Cli::try_parse_from(&args).expect_err("refused");
        let e = one_line(&e, &args);
        assert_eq!(e.kind.code(), 2);
        let text = e.to_string();
        assert!(!text.contains('\n'), "{text}");
        text
    }

    #[test]
    fn one_line_that_names_the_fault_and_the_help() {
        let text = error(&["credential", "add"]);
        assert!(text.contains("<NAME>") && text.ends_with("see `keyhatch credential add --help`"), "{text}");
        let text = error(&["env", "--format", "csh"]);
        assert!(text.contains("csh") && text.contains("sh, fish, dotenv, json"), "{text}");
        assert!(error(&["env", "--formt", "sh"]).contains("did you mean --format?"));
        assert!(error(&["credentials"]).contains("credential"), "a similar command is named");
    }

    #[test]
    fn a_secret_in_a_wrong_place_is_not_repeated() {
        for line in [
            &["credential", "add", "openrouter", "sk-or-v1-test-0001"][..],
            &["credential", "add", "openrouter", "--secret=sk-or-v1-test-0001"],
            &["credential", "add", "openrouter", "--key", "sk-or-v1-test-0001"],
            &["credential", "rotate", "openrouter", "sk-or-v1-test-0001"],
        ] {
            let text = error(line);
            assert!(!text.contains("sk-or-v1"), "{text}");
        }
    }

    #[test]
    fn json_is_asked_for_before_the_dashes_only() {
        let args = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
        assert!(asks_for_json(&args("keyhatch --json x")) && !asks_for_json(&args("keyhatch run -- x --json")));
    }
}
