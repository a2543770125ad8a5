//! pip, npm and cargo, each from a tiny private registry that demands the credential.

use std::path::{Path, PathBuf};
use std::process::Command;

use http::Response;
use tempfile::TempDir;

use super::origin::Asked;
use super::{BOTH, H1, H2, Key, Origin, RealKey, Stage};
use crate::support::clients::{Client, found};
use crate::support::home::said;
use crate::support::skip;

/// The packages, and their digests in the order of the script: the wheel, npm's tarball, the crate.
struct Packages {
    dir: TempDir,
    digests: Vec<String>,
}

impl Packages {
    fn make() -> Option<Self> {
        let python = Client::Python.path()?;
        let dir = TempDir::new().unwrap();
        let mut command = Command::new(python);
        command.args(["-c", include_str!("peers/packages.py")]).arg(dir.path());
        let said = said(command, b"");
        assert_eq!(said.code, 0, "{said:?}");
        Some(Self { dir, digests: said.stdout.lines().map(str::to_owned).collect() })
    }

    /// What the registries say at a path.
    fn answer(&self, asked: &Asked) -> Response<Vec<u8>> {
        let file = |name: &str| (200, "application/octet-stream", std::fs::read(self.dir.path().join(name)).unwrap());
        let text = |kind, text: String| (200, kind, text.into_bytes());
        let (status, kind, body) = match asked.uri.path() {
            "/simple/probe/" => {
                let link = format!(
                    "<!DOCTYPE html><a href=\"/files/probe-1.0.0-py3-none-any.whl#sha256={}\">probe-1.0.0-py3-none-any.whl</a>",
                    self.digests[0]
                );
                text("text/html", link)
            }
            "/files/probe-1.0.0-py3-none-any.whl" => file("probe.whl"),
            "/probe" => {
                let version = format!(
                    r#"{{"name":"probe","version":"1.0.0","dist":{{"tarball":"https://api.example.com/probe/-/probe-1.0.0.tgz","shasum":"{}"}}}}"#,
                    self.digests[1]
                );
                text("application/json", format!(r#"{{"name":"probe","dist-tags":{{"latest":"1.0.0"}},"versions":{{"1.0.0":{version}}}}}"#))
            }
            "/probe/-/probe-1.0.0.tgz" => file("probe.tgz"),
            "/index/config.json" => text("application/json", r#"{"dl":"https://api.example.com/crates/{crate}-{version}.crate"}"#.to_owned()),
            "/index/pr/ob/probe" => text(
                "text/plain",
                format!(
                    "{{\"name\":\"probe\",\"vers\":\"1.0.0\",\"deps\":[],\"cksum\":\"{}\",\"features\":{{}},\"yanked\":false}}\n",
                    self.digests[2]
                ),
            ),
            "/crates/probe-1.0.0.crate" => file("probe.crate"),
            _ => (404, "text/plain", b"no such thing".to_vec()),
        };
        Response::builder().status(status).header("content-type", kind).body(body).unwrap()
    }
}

/// A registry and a proxy before it, for an origin of each kind.
fn for_each_origin(test: &str, program: Option<PathBuf>, mut run: impl FnMut(&Stage, &Path, &Path, u8)) {
    let Some(program) = program else { return skip(test, "not on this machine") };
    for (offers, upstream) in [(BOTH, H2), (H1, 1)] {
        let Some(packages) = Packages::make() else { return skip(test, "no Python to make packages with") };
        let key = RealKey::new(Key::Bearer);
        let origin = Origin::start(offers, &key, move |asked| packages.answer(asked));
        let stage = Stage::new(origin.address(), &key);
        let dir = TempDir::new().unwrap();
        run(&stage, &program, dir.path(), upstream);
        origin.expect_key_on_all();
    }
}

#[test]
fn pip_installs_through_an_intercepted_host() {
    for_each_origin("pip", Client::Python.path(), |stage, python, dir, upstream| {
        let args = ["-m", "pip", "install", "--quiet", "--no-input", "--index-url", "https://api.example.com/simple/", "--target", "here", "probe"];
        let said = stage.run_in(dir, python, &args, &[("PIP_DISABLE_PIP_VERSION_CHECK", "1")]);
        assert_eq!(said.code, 0, "{said:?}");
        assert_eq!(std::fs::read_to_string(dir.join("here/probe.py")).unwrap(), "answer = 42\n");
        for path in ["/simple/probe/", "/files/probe-1.0.0-py3-none-any.whl"] {
            stage.expect_spoken(path, 1, upstream);
        }
    });
}

#[test]
fn npm_installs_through_an_intercepted_host() {
    for_each_origin("npm", found("npm"), |stage, npm, dir, upstream| {
        let args = ["install", "--no-audit", "--no-fund", "--registry", "https://api.example.com/", "probe"];
        let said = stage.run_in(dir, npm, &args, &[("npm_config_update_notifier", "false")]);
        assert_eq!(said.code, 0, "{said:?}");
        assert_eq!(std::fs::read_to_string(dir.join("node_modules/probe/index.js")).unwrap(), "module.exports = 42\n");
        for path in ["/probe", "/probe/-/probe-1.0.0.tgz"] {
            stage.expect_spoken(path, 1, upstream);
        }
    });
}

/// The cargo that builds these tests: a wrapper on `PATH` may need more of its home than a clean environment has.
fn cargo() -> Option<PathBuf> {
    Some(PathBuf::from(env!("CARGO"))).filter(|p| p.exists())
}

#[test]
fn cargo_fetches_and_builds_through_an_intercepted_host() {
    for_each_origin("cargo", cargo(), |stage, cargo, dir, upstream| {
        std::fs::create_dir_all(dir.join(".cargo")).unwrap();
        std::fs::create_dir_all(dir.join("src")).unwrap();
        let source = "[source.crates-io]\nreplace-with = \"probe\"\n[source.probe]\nregistry = \"sparse+https://api.example.com/index/\"\n";
        std::fs::write(dir.join(".cargo/config.toml"), source).unwrap();
        let manifest = "[package]\nname = \"own\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[dependencies]\nprobe = \"1\"\n[workspace]\n";
        std::fs::write(dir.join("Cargo.toml"), manifest).unwrap();
        std::fs::write(dir.join("src/main.rs"), "fn main() { assert_eq!(probe::ANSWER, 42); }\n").unwrap();
        let beside = cargo.parent().unwrap().display().to_string();
        let path = format!("{beside}:{}", std::env::var("PATH").unwrap());
        for args in [&["fetch"][..], &["check", "--offline", "--quiet"]] {
            let said = stage.run_in(dir, cargo, args, &[("PATH", &path)]);
            assert_eq!(said.code, 0, "{args:?}: {said:?}");
        }
        for path in ["/index/config.json", "/index/pr/ob/probe", "/crates/probe-1.0.0.crate"] {
            stage.expect_spoken(path, H2, upstream);
        }
    });
}
