//! The command under `run`: its environment, the signals that are passed on to it, and how it ended.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitCode, ExitStatus};

use rustix::process::{Pid, Signal};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::cli::agent_env::Variables;
use crate::cli::error::CommandError;

/// What a supervisor sends to `run` and means for the command.
const PASSED_ON: [Signal; 6] = [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT, Signal::USR1, Signal::USR2];

/// How it went.
pub(super) enum Ended {
    /// The command ran: its exit code, or 128 and the signal's number.
    With(ExitCode),
    /// It could not be started; the exit code is 127 where it was not found, else 126, as in a shell.
    NotStarted(CommandError),
}

/// Runs the command to its end. `inherited` is what is left of our own environment, `variables` goes on top.
pub(super) async fn run(command: &[OsString], inherited: Vec<(OsString, OsString)>, variables: &Variables) -> Result<Ended, CommandError> {
    let (program, args) = command.split_first().ok_or_else(|| CommandError::usage("the command is missing"))?;
    // Before the command is there: no signal is lost between its start and the handlers'.
    let mut signals = Signals::listen().map_err(CommandError::doing("signals cannot be received"))?;
    let mut process = Command::new(program);
    process.args(args).env_clear().envs(inherited).envs(variables.iter().map(|(n, v)| (n, v.as_str())));
    let mut child = match process.spawn() {
        Ok(child) => child,
        Err(e) => return Ok(not_started(program, &e)),
    };
    loop {
        tokio::select! {
            status = child.wait() => {
                let status = status.map_err(CommandError::doing("the command's end cannot be seen"))?;
                return Ok(Ended::With(exit_code(status)));
            }
            Some(signal) = signals.next() => pass_on(&child, signal),
        }
    }
}

fn not_started(program: &OsString, e: &io::Error) -> Ended {
    let (code, hint) = match e.kind() {
        io::ErrorKind::NotFound => (127, "check its name and PATH; a script's interpreter must exist too"),
        _ => (126, "check that it is a program, and its permissions"),
    };
    let error = CommandError::failed(format!("{} cannot be run: {e}", program.to_string_lossy())).hint(hint);
    Ended::NotStarted(CommandError { exit_code: Some(code), ..error })
}

fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| status.signal().map(|n| 128 + n)).unwrap_or(1);
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}

/// A child that has ended is not yet reaped, so its id is still its own.
fn pass_on(child: &Child, signal: Signal) {
    let from_keyboard = matches!(signal, Signal::INT | Signal::QUIT) && in_foreground();
    let pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    if let Some(pid) = pid.filter(|_| !from_keyboard) {
        // It may have ended in this moment; then there is nobody to tell.
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// Whether our process group is the terminal's foreground: then Ctrl-C has reached the command as well, and
/// once more would count as a second press.
fn in_foreground() -> bool {
    let Ok(tty) = std::fs::File::open("/dev/tty") else { return false };
    rustix::termios::tcgetpgrp(&tty).is_ok_and(|group| group == rustix::process::getpgrp())
}

/// The signals that arrive, but for those that were ignored when we were started (`nohup`): the command ignores them too.
struct Signals(mpsc::UnboundedReceiver<Signal>);

impl Signals {
    fn listen() -> io::Result<Self> {
        let ignored = ignored_signals();
        let (sender, receiver) = mpsc::unbounded_channel();
        for number in PASSED_ON {
            if ignored & (1 << (number.as_raw() - 1)) != 0 {
                continue;
            }
            let mut stream = signal(SignalKind::from_raw(number.as_raw()))?;
            let sender = sender.clone();
            tokio::spawn(async move { while stream.recv().await.is_some() && sender.send(number).is_ok() {} });
        }
        Ok(Self(receiver))
    }

    async fn next(&mut self) -> Option<Signal> {
        self.0.recv().await
    }
}

/// The mask of ignored signals, from `/proc`; none where there is no such file.
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|l| l.strip_prefix("SigIgn:")).map(str::trim);
    mask.and_then(|m| u64::from_str_radix(m, 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn code(command: &[&str], variables: &Variables) -> String {
        let command: Vec<OsString> = command.iter().map(OsString::from).collect();
        match run(&command, Vec::new(), variables).await.expect("no failure of our own") {
            Ended::With(code) => format!("{code:?}"),
            Ended::NotStarted(e) => {
                assert!(e.to_string().contains("cannot be run"), "{e}");
                format!("{:?}", ExitCode::from(e.code()))
            }
        }
    }

    #[tokio::test]
    async fn the_command_ends_as_it_ends() {
        let none = Variables::new();
        for (script, want) in [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 128 + 15), ("kill -KILL $$", 128 + 9)] {
            assert_eq!(code(&["/bin/sh", "-c", script], &none).await, format!("{:?}", ExitCode::from(want)), "{script}");
        }
        assert_eq!(code(&["/no/such/command"], &none).await, format!("{:?}", ExitCode::from(127)));
        assert_eq!(code(&["/"], &none).await, format!("{:?}", ExitCode::from(126)));
    }

    #[tokio::test]
    async fn it_has_the_variables_and_nothing_else() {
        let variables = crate::cli::agent_env::example().variables();
        let script = r#"test "$HTTPS_PROXY" = http://default:khs_abc@127.0.0.1:8877 && test -z "$HOME$CARGO" && test "$NODE_USE_ENV_PROXY" = 1"#;
        assert_eq!(code(&["/bin/sh", "-c", script], &variables).await, format!("{:?}", ExitCode::from(0)));
    }
}
