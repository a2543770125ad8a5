//! curl, and Python's httpx, requests and aiohttp.

use std::collections::BTreeMap;

use super::{BOTH, H1, H2, Key, Origin, RealKey, Stage};
use crate::support::clients::Client;

const BODY: &str = r#"{"messages":[{"role":"user","content":"Grüße ☃"}]}"#;

/// What every one of them must get through; its path tells the cases apart.
#[track_caller]
fn expect_arrived(origin: &Origin, case: &str, path: &str, spoken: u8) {
    origin.expect_key_on_all();
    let got = origin.last();
    assert_eq!(got.version, if spoken == 2 { http::Version::HTTP_2 } else { http::Version::HTTP_11 }, "{case}");
    assert_eq!((got.method.as_str(), got.uri.path(), got.uri.query()), ("POST", path, Some("a=1&b=%20")), "{case}");
    assert_eq!(got.values("x-title"), ["My app"], "{case}");
    assert_eq!(String::from_utf8_lossy(&got.body), BODY, "{case}");
}

/// Origins of both kinds, with the protocol that the proxy must speak to them.
const ORIGINS: [(&[&str], u8); 2] = [(BOTH, H2), (H1, 1)];

#[test]
fn curl_speaks_either_protocol_to_either_origin() {
    for (offers, upstream) in ORIGINS {
        let key = RealKey::new(Key::Bearer);
        let origin = Origin::agreeable(offers, &key);
        let stage = Stage::new(origin.address(), &key);
        for (flag, agent) in [("--http2", H2), ("--http1.1", 1)] {
            let path = format!("/curl{flag}");
            let url = format!("https://api.example.com{path}?a=1&b=%20");
            let format = "%{http_code} %{http_version}";
            let args =
                ["-sS", "--max-time", "20", flag, "-w", format, "-d", BODY, "-H", "Authorization: Bearer agents-own", "-H", "X-Title: My app", &url];
            let Some(said) = Client::Curl.run("curl", stage.env(), &args) else { return };
            let version = if agent == 2 { "2" } else { "1.1" };
            assert_eq!((said.code, said.stdout), (0, format!("{{\"ok\":true}}200 {version}")), "{flag}: {}", said.stderr);
            expect_arrived(&origin, flag, &path, upstream);
            stage.expect_spoken(&path, agent, upstream);
        }
    }
}

#[test]
fn curl_gets_many_answers_at_once_on_one_connection() {
    let key = RealKey::new(Key::Bearer);
    let origin = Origin::start(BOTH, &key, |asked| http::Response::new(asked.uri.path().repeat(20_000).into_bytes()));
    let stage = Stage::new(origin.address(), &key);
    let args = [
        "-sS",
        "--max-time",
        "30",
        "--http2",
        "--parallel",
        "-w",
        "%{http_code} %{size_download}\n",
        "-o",
        "#1.out",
        "https://api.example.com/[10-49]",
    ];
    let Some(said) = Client::Curl.run("curl", stage.env(), &args) else { return };
    assert_eq!((said.code, said.stdout.as_str()), (0, "200 60000\n".repeat(40).as_str()), "{}", said.stderr);
    assert_eq!(origin.asked().len(), 40);
    origin.expect_key_on_all();
}

/// Runs a script of Python for each origin. `{path}` in it is the path to ask; it prints the status and the protocol.
fn python(module: &str, script: &str, agent: u8) {
    for (offers, upstream) in ORIGINS {
        let key = RealKey::new(Key::Bearer);
        let origin = Origin::agreeable(offers, &key);
        let stage = Stage::new(origin.address(), &key);
        let path = format!("/{module}");
        let common = format!(
            "url = 'https://api.example.com{path}?a=1&b=%20'\nbody = {BODY:?}.encode('utf-8')\nheaders = {{'Authorization': 'Bearer agents-own', 'X-Title': 'My app'}}\n"
        );
        let Some(said) = script_of(module, stage.env(), &(common + script)) else { return };
        let version = if agent == 2 { "HTTP/2" } else { "HTTP/1.1" };
        assert_eq!((said.code, said.stdout.trim()), (0, format!("200 {version} {{\"ok\":true}}").as_str()), "{said:?}");
        expect_arrived(&origin, module, &path, upstream);
        stage.expect_spoken(&path, agent, upstream);
    }
}

/// Runs a script whose module may be missing on this machine.
pub fn script_of(module: &str, env: &BTreeMap<String, String>, script: &str) -> Option<crate::support::Said> {
    let said = Client::Python.script(module, env, script)?;
    if said.code != 0 && said.stderr.contains("ModuleNotFoundError") {
        crate::support::skip(module, "pip could not install it");
        return None;
    }
    Some(said)
}

#[test]
fn python_httpx_speaks_http_2() {
    let script = "import httpx\nwith httpx.Client(http2=True, timeout=20) as c:\n    r = c.post(url, content=body, headers=headers)\nprint(r.status_code, r.http_version, r.text)";
    python("httpx-http2", &format!("import h2\n{script}"), H2);
}

#[test]
fn python_httpx_speaks_http_1_1() {
    let script = "import httpx\nr = httpx.post(url, content=body, headers=headers, timeout=20)\nprint(r.status_code, r.http_version, r.text)";
    python("httpx", script, 1);
}

#[test]
fn python_requests_speaks_http_1_1() {
    let script = "import requests\nr = requests.post(url, data=body, headers=headers, timeout=20)\nprint(r.status_code, 'HTTP/%.1f' % (r.raw.version / 10), r.text)";
    python("requests", script, 1);
}

#[test]
fn python_aiohttp_speaks_http_1_1() {
    let script = "import aiohttp, asyncio
async def main():
    async with aiohttp.ClientSession(trust_env=True) as s:
        async with s.post(aiohttp.client.URL(url, encoded=True), data=body, headers=headers) as r:
            print(r.status, 'HTTP/%d.%d' % r.version, await r.text())
asyncio.run(main())";
    python("aiohttp", script, 1);
}

#[test]
fn python_httpx_has_many_streams_at_once() {
    let key = RealKey::new(Key::Bearer);
    let origin = Origin::start(BOTH, &key, |asked| http::Response::new(asked.body.to_vec()));
    let stage = Stage::new(origin.address(), &key);
    let script = "import asyncio, h2, httpx
async def main():
    async with httpx.AsyncClient(http2=True, timeout=30) as c:
        async def one(n):
            body = bytes([n]) * (n * 3000)
            r = await c.post(f'https://api.example.com/{n}', content=body)
            return r.status_code == 200 and r.content == body
        print(all(await asyncio.gather(*(one(n) for n in range(60)))))
asyncio.run(main())";
    let Some(said) = script_of("httpx-http2", stage.env(), script) else { return };
    assert_eq!((said.code, said.stdout.trim()), (0, "True"), "{said:?}");
    assert_eq!(origin.asked().len(), 60);
    origin.expect_key_on_all();
}
