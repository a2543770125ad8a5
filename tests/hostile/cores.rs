//! No process that may hold a secret leaves it in a core dump, or lets another process of its user look into it.

use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};

use super::SECOND;
use super::case::{cases, is_well, nothing_was_sent};
use crate::support::home::PASSPHRASE;
use crate::support::{Home, World, binary, fresh_key, skip, within};

/// Lets this process's children dump core, if the system lets it; whether a plain one then does.
fn cores_can_be(dir: &std::path::Path) -> bool {
    let limit = getrlimit(Resource::Core);
    let wide = if rustix::process::geteuid().is_root() { None } else { limit.maximum };
    if setrlimit(Resource::Core, Rlimit { current: wide, maximum: wide }).is_err() {
        return false;
    }
    let plain = Command::new("sh").args(["-c", "kill -SEGV $$"]).current_dir(dir).status();
    plain.is_ok_and(|status| status.core_dumped())
}

/// Sends the signal until the process has ended: of a fault that was sent, Rust's own handler makes nothing the first time.
#[track_caller]
fn end_with(pid: u32, signal: Signal, mut ended: impl FnMut() -> Option<ExitStatus>) -> ExitStatus {
    let pid = Pid::from_raw(pid.cast_signed()).unwrap();
    within(20 * SECOND, "it ends", || {
        let status = ended();
        if status.is_none() {
            let _ = kill_process(pid, signal);
        }
        status
    })
}

/// The process waits for something: it is past its start.
#[track_caller]
fn is_waiting(pid: u32) {
    within(20 * SECOND, "it waits", || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let command = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
        let stack = std::fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap_or_default();
        let asleep = stack.is_empty() || ["0", "pipe", "wait", "poll"].iter().any(|word| stack.contains(word));
        (command.contains("keyhatch") && stat.contains(") S ") && asleep).then_some(())
    });
}

/// A command that is in the midst of its work, its input still open.
fn begun(home: &Home, args: &[&str]) -> Child {
    let mut command = home.command(args);
    command.current_dir(home.outside()).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let child = command.spawn().unwrap();
    is_waiting(child.id());
    child
}

cases! { a_command_leaves_no_core {
    credential_add: (&["credential", "add", "one", "--allow", "example.net"], Signal::SEGV),
    credential_add_aborted: (&["credential", "add", "one", "--allow", "example.net"], Signal::ABORT),
    credential_rotate: (&["credential", "rotate", "real"], Signal::SEGV),
    run_beside_serve: (&["run", "--", "cat"], Signal::SEGV),
    run_beside_serve_aborted: (&["run", "--", "cat"], Signal::ABORT),
} }

#[track_caller]
fn a_command_leaves_no_core((args, signal): (&[&str], Signal)) {
    let world = World::agreeable();
    if !cores_can_be(world.home.outside()) {
        return skip("hostile::cores", "this machine dumps no cores anyhow");
    }
    let mut child = begun(&world.home, args);
    let input = child.stdin.take();
    let status = end_with(child.id(), signal, || child.try_wait().unwrap());
    drop(input);
    assert_eq!(status.signal(), Some(signal.as_raw()), "{status}");
    assert!(!status.core_dumped(), "{status}");
    nothing_was_sent(&world);
    is_well(&world);
}

/// With the store open, and the new passphrase awaited.
#[test]
fn store_rekey() {
    let home = Home::with_key_file("");
    if !cores_can_be(home.outside()) {
        return skip("hostile::cores", "this machine dumps no cores anyhow");
    }
    let pipe = home.outside().join("new-passphrase");
    assert!(Command::new("mkfifo").args(["-m", "600"]).arg(&pipe).status().is_ok_and(|s| s.success()));
    let mut child = begun(&home, &["store", "rekey", "--new-passphrase-file", pipe.to_str().unwrap()]);
    let status = end_with(child.id(), Signal::SEGV, || child.try_wait().unwrap());
    assert!(status.signal() == Some(Signal::SEGV.as_raw()) && !status.core_dumped(), "{status}");
    home.ok(&["store", "verify"]);
}

cases! { serve_leaves_no_core {
    serve_at_a_fault: Signal::SEGV,
    serve_at_an_abort: Signal::ABORT,
    serve_at_a_trap: Signal::TRAP,
} }

#[track_caller]
fn serve_leaves_no_core(signal: Signal) {
    let probe = tempfile::TempDir::new().unwrap();
    let can = cores_can_be(probe.path());
    let mut world = World::agreeable();
    is_well(&world);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", world.serve.pid())).unwrap();
    let core = limits.lines().find(|l| l.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_ascii_whitespace().collect::<Vec<_>>()[4..6], ["0", "0"], "{core}");
    if !can {
        return skip("hostile::cores", "this machine dumps no cores anyhow");
    }
    let pid = world.serve.pid();
    let status = end_with(pid, signal, || world.serve.ended());
    assert_eq!(status.signal(), Some(signal.as_raw()), "{status}");
    assert!(!status.core_dumped(), "{status}");
}

/// A process that goes with the test, however that ends.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The uid of nobody in particular.
const NOBODY: &str = "65534";

/// A command under that uid.
fn as_nobody(program: &std::path::Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]).arg(program);
    command
}

/// Whether a process of that uid reads this file of another process.
fn nobody_reads(path: &str) -> bool {
    let read = as_nobody("head".as_ref()).args(["-c", "1", path]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    read.is_ok_and(|s| s.success())
}

/// `serve`, `run` with a proxy of its own, and a command that waits for a secret, each as another user, looked at by that user.
#[test]
fn a_process_of_the_same_user_cannot_look_inside() {
    let test = "a_process_of_the_same_user_cannot_look_inside";
    if !rustix::process::geteuid().is_root() {
        return skip(test, "not root: no other user can be taken on");
    }
    let home = Home::new("");
    home.add_key("real", &["example.net"], &fresh_key());
    let owned = Command::new("chown").args(["-R", &format!("{NOBODY}:{NOBODY}")]).arg(home.outside()).status();
    if !owned.is_ok_and(|s| s.success()) || !as_nobody("true".as_ref()).status().is_ok_and(|s| s.success()) {
        return skip(test, "no setpriv");
    }
    let mut plain = as_nobody("sleep".as_ref()).arg("60").spawn().unwrap();
    within(SECOND, "an ordinary process can be looked into", || nobody_reads(&format!("/proc/{}/environ", plain.id())).then_some(()));
    plain.kill().unwrap();
    plain.wait().unwrap();
    let beginning: [&[&str]; 3] = [&["serve"], &["run", "--", "cat"], &["credential", "add", "one", "--allow", "example.org"]];
    for args in beginning {
        let mut command = as_nobody(binary());
        home.dress(&mut command);
        let child = Killed(command.args(args).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        within(20 * SECOND, "it runs", || {
            let name = std::fs::read_to_string(format!("/proc/{}/comm", child.0.id())).ok()?;
            let ready = args[0] != "serve" || home.path().join("admin.sock").exists();
            (name.trim() == "keyhatch" && ready).then_some(())
        });
        is_waiting_or_serving(child.0.id());
        for file in ["environ", "maps", "mem", "auxv", "stack", "syscall", "fd/0"] {
            assert!(!nobody_reads(&format!("/proc/{}/{file}", child.0.id())), "{args:?}: {file}");
        }
        let owner = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(format!("/proc/{}/environ", child.0.id())).unwrap());
        assert_eq!(owner, 0, "{args:?}");
    }
}

/// It has done its first system calls of its own.
fn is_waiting_or_serving(pid: u32) {
    within(20 * SECOND, "it is past its start", || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.contains(") S ").then_some(())
    });
}

/// The passphrase goes to nobody's command line.
#[test]
fn no_secret_is_on_a_command_line() {
    let world = World::agreeable();
    is_well(&world);
    let line = std::fs::read(format!("/proc/{}/cmdline", world.serve.pid())).unwrap();
    for secret in [&world.key, PASSPHRASE, world.agent().authorization.trim_start_matches("Basic ")] {
        assert!(!crate::support::holds(&line, secret), "{}", String::from_utf8_lossy(&line));
    }
    let environment = std::fs::read(format!("/proc/{}/environ", world.serve.pid())).unwrap();
    assert!(!crate::support::holds(&environment, &world.key));
}
