//! Real clients, given only what `keyhatch env` prints.

use std::time::Duration;

use crate::support::clients::Client;
use crate::support::world::{HOSTS, configuration};
use crate::support::{Agent, Home, Origin, Serve, World, fresh_key, within};

const BODY: &str = r#"{"model":"demo/hello","messages":[{"role":"user","content":"Grüße ☃"}]}"#;
const TARGET: &str = "/api/v1/chat/completions?a=1&b=%20";

/// What every client must get through.
#[track_caller]
fn expect_arrived(world: &World, client: &str) {
    let got = world.origin.last();
    assert_eq!(got.values("authorization"), [world.bearer()], "{client}");
    assert_eq!(got.target, TARGET, "{client}");
    assert_eq!(got.value("http-referer"), "https://my.app", "{client}");
    assert_eq!(got.value("x-openrouter-title"), "My app", "{client}");
    assert_eq!(String::from_utf8_lossy(&got.body), BODY, "{client}");
    assert!(!got.fields.iter().any(|(_, v)| v.windows(8).any(|w| w == b"agents-o")), "{client}: {}", String::from_utf8_lossy(&got.head));
}

#[test]
fn curl_gets_a_200_with_what_env_prints() {
    let world = World::new();
    let url = format!("https://openrouter.ai{TARGET}");
    let headers = ["-H", "Authorization: Bearer agents-own", "-H", "HTTP-Referer: https://my.app", "-H", "X-OpenRouter-Title: My app"];
    let args = [&["-sS", "--max-time", "20", "-w", "%{http_code}", "-d", BODY][..], &headers, &[&url]].concat();
    let Some(said) = Client::Curl.run("curl", &world.serve.env, &args) else { return };
    assert!(said.code == 0 && said.stdout.ends_with("200"), "{said:?}");
    expect_arrived(&world, "curl");
    // curl keeps a trailing dot and upper case in CONNECT.
    for host in ["openrouter.ai.", "OpenRouter.AI"] {
        let said =
            Client::Curl.run("curl", &world.serve.env, &["-sS", "--max-time", "20", "-w", "%{http_code}", &format!("https://{host}/")]).unwrap();
        assert!(said.code == 0 && said.stdout.ends_with("200"), "{host}: {said:?}");
    }
    // An unmatched host: the origin's certificate is not ours, and the client sees that.
    let said = Client::Curl.run("curl", &world.serve.env, &["-sS", "--max-time", "20", "https://example.net/"]).unwrap();
    assert_eq!(said.code, 60, "the origin's own certificate arrives unread: {said:?}");
}

#[test]
fn python_requests_and_httpx_get_a_200_with_what_env_prints() {
    let world = World::new();
    for module in ["requests", "httpx"] {
        let script = format!(
            "import {module}\nr = {module}.post('https://openrouter.ai{TARGET}', {data}={BODY:?}.encode('utf-8'), headers={{'Authorization': 'Bearer agents-own', 'HTTP-Referer': 'https://my.app', 'X-OpenRouter-Title': 'My app'}}, timeout=20)\nprint(r.status_code, r.json()['ok'])",
            data = if module == "httpx" { "content" } else { "data" },
        );
        let Some(said) = Client::Python.script(module, &world.serve.env, &script) else { return };
        assert_eq!((said.code, said.stdout.trim()), (0, "200 True"), "{said:?}");
        expect_arrived(&world, module);
    }
}

#[test]
fn node_fetch_gets_a_200_with_what_env_prints() {
    let world = World::new();
    let script = format!(
        "const r = await fetch('https://openrouter.ai{TARGET}', {{method: 'POST', body: {BODY:?}, headers: {{authorization: 'Bearer agents-own', 'http-referer': 'https://my.app', 'x-openrouter-title': 'My app'}}}}); console.log(r.status, (await r.json()).ok)"
    );
    let Some(said) = Client::Node.script("node", &world.serve.env, &script) else { return };
    assert_eq!((said.code, said.stdout.trim()), (0, "200 true"), "{said:?}");
    expect_arrived(&world, "node");
}

#[test]
fn strict_python_accepts_the_certificates() {
    let world = World::new();
    let script = "import urllib.request, ssl\nprint(bool(ssl.create_default_context().verify_flags & ssl.VERIFY_X509_STRICT))\nr = urllib.request.urlopen('https://openrouter.ai/', timeout=20)\nprint(r.status)";
    let Some(said) = Client::Python313.script("python3.13", &world.serve.env, script) else { return };
    assert_eq!((said.code, said.stdout.trim()), (0, "True\n200"), "{said:?}");
}

#[test]
fn git_is_asked_for_its_proof_and_goes_on() {
    let world = World::new();
    let Some(said) = Client::Git.run("git", &world.serve.env, &["ls-remote", "https://openrouter.ai/x.git"]) else { return };
    // The origin is no git server: what counts is that the request came, with the key, after a 407.
    let got = world.origin.recorded();
    assert!(!got.is_empty(), "{said:?}");
    assert_eq!((got[0].target.as_str(), got[0].values("authorization")), ("/x.git/info/refs?service=git-upload-pack", vec![world.bearer()]));
}

/// A stage where each of the proxy's own answers can be had from a client.
fn refusals() -> (Home, Serve, Origin) {
    let origin = Origin::agreeable(&HOSTS);
    let home = Home::bare("");
    home.configure(&configuration(&home, &origin, "[egress]\ndeny_hosts = [\"example.net\"]\n"));
    home.ok(&["init"]);
    home.ok_with(&["credential", "add", "openrouter"], &fresh_key());
    home.add_key("off", &["api.example.com"], &fresh_key());
    home.ok(&["credential", "disable", "off"]);
    home.add_key("nowhere", &["nowhere.invalid"], &fresh_key());
    let serve = Serve::start(&home);
    let agent = Agent::new(&home, &serve);
    within(Duration::from_secs(2), "the stage is set", || agent.open("api.example.com:443").intercepted().then_some(()));
    (home, serve, origin)
}

/// Host, path, what the client must show.
const INSIDE: [(&str, &str, &str); 3] =
    [("openrouter.ai", "/api/v1/keys", "path_denied"), ("api.example.com", "/", "credential_unavailable"), ("nowhere.invalid", "/", "dns_error")];

#[test]
fn curl_shows_the_proxys_own_answers() {
    let (_home, serve, _origin) = refusals();
    for (host, path, code) in INSIDE {
        let Some(said) = Client::Curl.run("curl", &serve.env, &["-sS", "--max-time", "30", &format!("https://{host}{path}")]) else { return };
        let body: serde_json::Value = said.json();
        assert_eq!((said.code, body["error"]["code"].as_str()), (0, Some(code)), "{said:?}");
    }
    let said = Client::Curl.run("curl", &serve.env, &["-sSv", "--max-time", "20", "https://example.net/"]).unwrap();
    assert_eq!(said.code, 56, "{said:?}");
    assert!(said.stderr.contains("response 403") && said.stderr.contains("example.net"), "{said:?}");
    let mut env = serve.env.clone();
    for value in env.values_mut().filter(|v| v.starts_with("http://") && v.contains('@')) {
        *value = format!("http://default:wrong@{}", serve.proxy());
    }
    let said = Client::Curl.run("curl", &env, &["-sS", "--max-time", "20", "https://openrouter.ai/"]).unwrap();
    assert!(said.code != 0 && said.stderr.contains("407"), "{said:?}");
}

#[test]
fn python_openai_shows_the_proxys_own_answers() {
    let (_home, serve, _origin) = refusals();
    for (host, path, code) in INSIDE {
        let script = format!(
            "import openai\nc = openai.OpenAI(base_url='https://{host}{path}', api_key='x', max_retries=0, timeout=30)\ntry:\n    c.models.list()\nexcept openai.APIStatusError as e:\n    print(type(e).__name__, e.code, '|', e)\n"
        );
        let Some(said) = Client::Python.script("openai", &serve.env, &script) else { return };
        let shown = said.stdout.trim();
        assert!(said.code == 0 && shown.contains(code) && shown.contains("Error code"), "{said:?}");
    }
    let script = "import openai\nc = openai.OpenAI(base_url='https://example.net/', api_key='x', max_retries=0, timeout=30)\ntry:\n    c.models.list()\nexcept openai.APIConnectionError as e:\n    print(repr(e), repr(e.__cause__))\n";
    let said = Client::Python.script("openai", &serve.env, script).unwrap();
    assert!(said.code == 0 && said.stdout.contains("403"), "{said:?}");
}

#[test]
fn node_fetch_shows_the_proxys_own_answers() {
    let (_home, serve, _origin) = refusals();
    for (host, path, code) in INSIDE {
        let script = format!("const r = await fetch('https://{host}{path}'); console.log(r.status, await r.text())");
        let Some(said) = Client::Node.script("node", &serve.env, &script) else { return };
        assert!(said.code == 0 && said.stdout.contains(code), "{said:?}");
    }
    let script = "try { await fetch('https://example.net/') } catch (e) { for (; e; e = e.cause) console.log(e.message) }";
    let said = Client::Node.script("node", &serve.env, script).unwrap();
    assert!(said.code == 0 && said.stdout.contains("403"), "{said:?}");
}

#[test]
fn openai_streams_through() {
    let origin = Origin::start(&HOSTS, |exchange| {
        exchange.read_body()?;
        let chunk = |text: &str| {
            format!(
                "data: {{\"id\":\"g\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n"
            )
        };
        let body = format!(": OPENROUTER PROCESSING\n\n{}{}data: [DONE]\n\n", chunk("Hello"), chunk(" there."));
        exchange.answer(200, "content-type: text/event-stream\r\n", body.as_bytes())
    });
    let world = World::with_origin(origin, fresh_key());
    let script = "import openai\nc = openai.OpenAI(base_url='https://openrouter.ai/api/v1', api_key='agents-own', max_retries=0, timeout=30)\nprint(''.join(p.choices[0].delta.content for p in c.chat.completions.create(model='m', messages=[{'role': 'user', 'content': 'x'}], stream=True)))";
    let Some(said) = Client::Python.script("openai", &world.serve.env, script) else { return };
    assert_eq!((said.code, said.stdout.trim()), (0, "Hello there."), "{said:?}");
    assert_eq!(world.origin.last().values("authorization"), [world.bearer()]);
}
