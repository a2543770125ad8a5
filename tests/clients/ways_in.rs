//! A proxy that is reached over TLS, by HTTP/1.1 and by HTTP/2: what curl calls `--proxy-http2`.

use super::stage::Stage;
use super::{BOTH, Key, Origin, RealKey};
use crate::proxy::listeners::tls_address;
use crate::support::Said;
use crate::support::clients::Client;

const CONFIGURATION: &str = "[proxy]\nlisten = \"127.0.0.1:0\"\ntls_listen = \"127.0.0.1:0\"\ntls_names = [\"127.0.0.1\"]\n";

/// One request with libcurl; what it said.
fn curl(stage: &Stage, proxy: u8, origin: u8) -> Option<Said> {
    // The same user, by the other listener.
    let url = &stage.env()["HTTPS_PROXY"];
    let user = url.strip_prefix("http://").unwrap().rsplit_once('@').unwrap().0;
    let through = format!("https://{user}@{}", tls_address(&stage.serve));
    let script = include_str!("peers/curl_proxy.py");
    let path = format!("https://api.example.com/by{proxy}/{origin}");
    let said = Client::Python.run("curl_cffi", stage.env(), &["-c", script, &through, &proxy.to_string(), &origin.to_string(), &path])?;
    if said.stderr.contains("ModuleNotFoundError") {
        crate::support::skip("curl --proxy-http2", "pip could not install curl_cffi");
        return None;
    }
    Some(said)
}

fn by(proxy: u8) {
    let key = RealKey::new(Key::Bearer);
    let origin = Origin::agreeable(BOTH, &key);
    let stage = Stage::configured(origin.address(), &key, &[], CONFIGURATION);
    for version in [1, 2] {
        let Some(said) = curl(&stage, proxy, version) else { return };
        assert_eq!((said.code, said.stdout.trim()), (0, format!("200 {version} {{\"ok\":true}}").as_str()), "{said:?}");
        assert_eq!(said.stderr.contains("Establishing HTTP/2 proxy tunnel"), proxy == 2, "{said:?}");
        stage.expect_spoken(&format!("/by{proxy}/{version}"), version, 2);
    }
    origin.expect_key_on_all();
    assert_eq!(origin.last().body, "hello");
}

#[test]
fn libcurl_reaches_the_proxy_over_tls_by_http_1_1() {
    by(1);
}

#[test]
fn libcurl_reaches_the_proxy_over_tls_by_http_2() {
    by(2);
}
