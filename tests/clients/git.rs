//! git over HTTPS: `git http-backend` behind the origin, clone and push with the credential put on by the proxy.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use http::Response;

use super::origin::Asked;
use super::{BOTH, H1, H2, Key, Origin, RealKey, Stage};
use crate::support::clients::Client;
use crate::support::home::said;
use crate::support::skip;

/// The program itself; some packages of git leave it out.
fn backend() -> Option<PathBuf> {
    let git = Client::Git.path()?;
    let out = Command::new(git).arg("--exec-path").output().ok()?;
    Some(PathBuf::from(String::from_utf8(out.stdout).ok()?.trim()).join("git-http-backend")).filter(|p| p.exists())
}

/// One request by CGI (RFC 3875), as a web server would hand it on.
fn cgi(program: &Path, root: &Path, asked: &Asked) -> Response<Vec<u8>> {
    let field = |name: &str| asked.values(name).join(", ");
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HOME", root)
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1");
    command
        .env("REQUEST_METHOD", asked.method.as_str())
        .env("PATH_INFO", asked.uri.path())
        .env("QUERY_STRING", asked.uri.query().unwrap_or_default());
    command.env("CONTENT_TYPE", field("content-type")).env("HTTP_CONTENT_ENCODING", field("content-encoding"));
    command.env("CONTENT_LENGTH", asked.body.len().to_string()).env("REMOTE_USER", "builder").env("GIT_PROTOCOL", field("git-protocol"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let body = asked.body.clone();
    let writer = std::thread::spawn(move || drop(input.write_all(&body)));
    let out = child.wait_with_output().unwrap().stdout;
    writer.join().unwrap();
    let end = out.windows(4).position(|w| w == b"\r\n\r\n").unwrap_or_else(|| panic!("a head: {}", String::from_utf8_lossy(&out)));
    let mut answer = Response::builder();
    for line in String::from_utf8_lossy(&out[..end]).lines() {
        let (name, value) = line.split_once(": ").unwrap();
        answer = if name == "Status" { answer.status(&value[..3]) } else { answer.header(name, value) };
    }
    answer.body(out[end + 4..].to_vec()).unwrap()
}

/// Runs git in a directory without the proxy.
#[track_caller]
fn git(dir: &Path, args: &[&str]) -> String {
    let mut command = Command::new(Client::Git.path().unwrap());
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", dir).current_dir(dir);
    command.args(["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "init.defaultBranch=main"]).args(args);
    let said = said(command, b"");
    assert_eq!(said.code, 0, "git {args:?}: {said:?}");
    said.stdout
}

/// Clone, commit, push, and look at what the server has.
fn round_trip(offers: &[&str], upstream: u8, version: &str, agent: u8) {
    let (Some(program), Some(client)) = (backend(), Client::Git.path()) else { return skip("git", "no git with http-backend") };
    let (server, work) = (tempfile::TempDir::new().unwrap(), tempfile::TempDir::new().unwrap());
    let root = server.path().to_path_buf();
    git(&root, &["init", "-q", "--bare", "project.git"]);
    git(&root, &["init", "-q", "seed"]);
    std::fs::write(root.join("seed/first"), "first\n".repeat(30_000)).unwrap();
    git(&root.join("seed"), &["add", "."]);
    git(&root.join("seed"), &["commit", "-qm", "first"]);
    git(&root.join("seed"), &["push", "-q", "../project.git", "main"]);

    let key = RealKey::new(Key::Basic);
    let projects = root.clone();
    let origin = Origin::start(offers, &key, move |asked| cgi(&program, &projects, asked));
    let stage = Stage::new(origin.address(), &key);
    let version = format!("http.version={version}");
    let run = |dir: &Path, args: &[&str]| {
        let said = stage.run_in(dir, &client, &[&["-c", &version], args].concat(), &[("GIT_TERMINAL_PROMPT", "0")]);
        assert_eq!(said.code, 0, "git {args:?}: {said:?}");
    };
    run(work.path(), &["clone", "-q", "https://git.example.com/project.git"]);
    let copy = work.path().join("project");
    assert_eq!(std::fs::read(copy.join("first")).unwrap().len(), 180_000);
    // More than `http.postBuffer` holds, so git sends it without having said a length.
    let noise = (0..600).flat_map(|_| keyhatch::random::bytes::<4096>()).collect::<Vec<u8>>();
    std::fs::write(copy.join("second"), &noise).unwrap();
    git(&copy, &["add", "."]);
    git(&copy, &["commit", "-qm", "second"]);
    run(&copy, &["push", "-q", "origin", "main"]);
    run(&copy, &["fetch", "-q"]);
    assert_eq!(git(&root.join("project.git"), &["log", "--format=%s", "main"]), "second\nfirst\n");
    assert_eq!(git(&root.join("project.git"), &["fsck", "--strict"]), "");
    let push = origin.asked().into_iter().filter(|a| a.uri.path().ends_with("/git-receive-pack")).max_by_key(|a| a.body.len()).unwrap();
    assert!(push.body.len() > noise.len(), "{push:?}");
    origin.expect_key_on_all();
    for path in ["/project.git/info/refs", "/project.git/git-upload-pack", "/project.git/git-receive-pack"] {
        stage.expect_spoken(path, agent, upstream);
    }
}

#[test]
fn git_clones_and_pushes_over_http_2() {
    round_trip(BOTH, H2, "HTTP/2", H2);
}

#[test]
fn git_clones_and_pushes_over_http_1_1_to_an_origin_of_http_2() {
    round_trip(BOTH, H2, "HTTP/1.1", 1);
}

#[test]
fn git_clones_and_pushes_over_http_2_to_an_origin_of_http_1_1() {
    round_trip(H1, 1, "HTTP/2", H2);
}
