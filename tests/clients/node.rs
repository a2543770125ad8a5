//! Node: fetch, undici's agent that reads the environment, and http2 by hand.

use super::{BOTH, H1, H2, Key, Origin, RealKey, Stage};
use crate::support::clients::Client;
use crate::support::{skip, target_dir};

/// Runs a script for an origin of each kind; it prints the status, the protocol where it knows, and the body. `{undici}`
/// in it is where undici is.
fn node(case: &str, script: &str, agent: u8) {
    let undici = target_dir().join("node/node_modules/undici/index.js");
    if script.contains("{undici}") && !undici.exists() {
        return skip(case, "npm could not install undici");
    }
    for (offers, upstream) in [(BOTH, H2), (H1, 1)] {
        let key = RealKey::new(Key::Bearer);
        let origin = Origin::agreeable(offers, &key);
        let stage = Stage::new(origin.address(), &key);
        let script = script.replace("{undici}", &undici.display().to_string());
        let common = "const body = JSON.stringify({snow: '☃'}); const headers = {authorization: 'Bearer agents-own', 'x-title': 'My app'};\n";
        let Some(said) = Client::Node.script(case, stage.env(), &format!("{common}{script}")) else { return };
        assert_eq!((said.code, said.stdout.trim()), (0, "200 {\"ok\":true}"), "{said:?}");
        origin.expect_key_on_all();
        let got = origin.last();
        assert_eq!((got.method.as_str(), got.values("x-title"), &got.body[..]), ("POST", vec!["My app".to_owned()], "{\"snow\":\"☃\"}".as_bytes()));
        stage.expect_spoken(&format!("/{case}"), agent, upstream);
    }
}

#[test]
fn node_fetch_speaks_http_1_1() {
    let script = "const r = await fetch('https://api.example.com/fetch', {method: 'POST', body, headers});\nconsole.log(r.status, await r.text());";
    node("fetch", script, 1);
}

#[test]
fn node_https_speaks_http_1_1() {
    let script = "import https from 'node:https';
const answer = await new Promise((done, fail) => https.request('https://api.example.com/https', {method: 'POST', headers}, done).on('error', fail).end(body));
let text = ''; for await (const part of answer) text += part;
console.log(answer.statusCode, text);";
    node("https", script, 1);
}

#[test]
fn undicis_agent_of_the_environment_speaks_http_1_1() {
    let script = "import undici from '{undici}';
const r = await undici.fetch('https://api.example.com/undici', {method: 'POST', body, headers, dispatcher: new undici.EnvHttpProxyAgent()});
console.log(r.status, await r.text());";
    node("undici", script, 1);
}

#[test]
fn undicis_agent_of_the_environment_speaks_http_2_where_it_may() {
    let script = "import undici from '{undici}';
const dispatcher = new undici.EnvHttpProxyAgent({allowH2: true, requestTls: {allowH2: true}});
const r = await undici.fetch('https://api.example.com/undici-h2', {method: 'POST', body, headers, dispatcher});
console.log(r.status, await r.text());
await dispatcher.close();";
    node("undici-h2", script, H2);
}

/// A CONNECT by hand, TLS with ALPN in it, and Node's own http2 on that. `session` is what the rest of a script uses.
pub const BY_HAND: &str = "import http from 'node:http'; import http2 from 'node:http2'; import tls from 'node:tls';
const proxy = new URL(process.env.HTTPS_PROXY);
const auth = 'Basic ' + Buffer.from(decodeURIComponent(proxy.username) + ':' + decodeURIComponent(proxy.password)).toString('base64');
const connect = http.request({host: proxy.hostname, port: proxy.port, method: 'CONNECT', path: 'api.example.com:443', headers: {'proxy-authorization': auth}});
const socket = await new Promise((done, fail) => connect.on('connect', (_, socket) => done(socket)).on('error', fail).end());
const secure = await new Promise((done, fail) => { const s = tls.connect({socket, servername: 'api.example.com', ALPNProtocols: ['h2', 'http/1.1']}, () => done(s)); s.on('error', fail); });
if (secure.alpnProtocol !== 'h2') throw new Error('spoken: ' + secure.alpnProtocol);
const session = http2.connect('https://api.example.com', {createConnection: () => secure});
const ask = (fields, body) => new Promise((done, fail) => {
  const stream = session.request(fields); let head, text = '';
  stream.on('response', h => head = h).on('data', part => text += part).on('end', () => done([head[':status'], text])).on('error', fail).setEncoding('utf8').end(body);
});\n";

#[test]
fn node_http2_speaks_http_2() {
    let script = format!(
        "{BY_HAND}const [status, text] = await ask({{':method': 'POST', ':path': '/http2', ...headers}}, body);\nconsole.log(status, text);\nsession.close();"
    );
    node("http2", &script, 2);
}

#[test]
fn node_http2_has_many_streams_at_once() {
    let key = RealKey::new(Key::Bearer);
    let origin = Origin::start(BOTH, &key, |asked| http::Response::new(asked.body.to_vec()));
    let stage = Stage::new(origin.address(), &key);
    let script = format!(
        "{BY_HAND}const all = await Promise.all([...Array(60).keys()].map(async n => {{ const body = String(n).repeat(n * 999); const [status, text] = await ask({{':method': 'POST', ':path': '/' + n}}, body); return status === 200 && text === body; }}));\nconsole.log(all.every(x => x));\nsession.close();"
    );
    let Some(said) = Client::Node.script("http2", stage.env(), &script) else { return };
    assert_eq!((said.code, said.stdout.trim()), (0, "true"), "{said:?}");
    origin.expect_key_on_all();
}
