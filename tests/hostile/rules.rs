//! Ways round a credential's rules about paths and methods, and round the fields that the proxy alone fills in.

use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;

use super::case::{audit_says, cases, is_well, nothing_was_sent};
use crate::support::over_h2::{Proxy, over, run, told};
use crate::support::raw::{Reply, trusting};
use crate::support::{Agent, Recorded, World, fresh_key, within};

/// The host of the credential with rules.
const RULED: &str = "api.example.com";

/// A world with one more credential, for [`RULED`], under these rules.
fn under(rules: &[&str]) -> (World, String) {
    let (world, key) = (World::agreeable(), fresh_key());
    world.home.ok_with(&[&["credential", "add", "ruled", "--allow", RULED, "--type", "bearer"], rules].concat(), &key);
    let agent = world.agent();
    within(super::SECOND, "felt", || agent.open(&format!("{RULED}:443")).intercepted().then_some(()));
    (world, key)
}

/// One request inside a tunnel.
fn inside(agent: &Agent, method: &str, target: &str, more: &str) -> Reply {
    agent.open(&format!("{RULED}:443")).ask(format!("{method} {target} HTTP/1.1\r\nHost: {RULED}\r\n{more}\r\n"))
}

/// HTTP/2 inside a tunnel.
async fn http2(world: &World, agent: &Agent) -> Proxy {
    let (reply, tunnel) = agent.connect(&format!("{RULED}:443"));
    assert_eq!(reply.status, 200);
    tunnel.set_nonblocking(true).unwrap();
    let tls = TlsConnector::from(trusting(&world.home.path().join("ca.pem"), &["h2"]));
    let tunnel = tokio::net::TcpStream::from_std(tunnel).unwrap();
    over(tls.connect(ServerName::try_from(RULED).unwrap(), tunnel).await.unwrap(), agent.authorization.clone()).await
}

/// The path is refused inside a tunnel, in absolute form and over HTTP/2, and nothing of it is sent.
#[track_caller]
fn nothing_goes_to(world: &World, path: &str) {
    let agent = world.agent();
    let reply = inside(&agent, "GET", path, "");
    let (status, code) = if reply.status == 400 { (400, "bad_request") } else { (403, "path_denied") };
    reply.expect_own(status, code);
    if path.starts_with('/') {
        let head = format!("GET https://{RULED}{path} HTTP/1.1\r\nHost: {RULED}\r\nProxy-Authorization: {{auth}}\r\nConnection: close\r\n\r\n");
        agent.absolute(&head).expect_own(status, code);
    }
    // What the tests' client of HTTP/2 would send as it is.
    let uri = format!("https://{RULED}{path}").parse::<http::Uri>().ok().filter(|_| path.starts_with('/') && !path.contains('#'));
    if let Some(uri) = uri {
        let told = run(async { http2(world, &agent).await.get(&uri.to_string(), &[]).await });
        assert_eq!(told.0, status, "{told:?}");
    }
    audit_says(world, "denied", code);
    nothing_was_sent(world);
    is_well(world);
}

/// Spellings of `/admin`, which is closed, or of what could be read as it.
fn is_closed(path: &str) {
    nothing_goes_to(&under(&["--deny-path", "/admin/**"]).0, path);
}

cases! { is_closed {
    the_path_itself: "/admin",
    a_slash_after_it: "/admin/",
    a_query_after_it: "/admin?x",
    an_empty_query_after_it: "/admin?",
    below_it: "/admin/x",
    in_capitals: "/ADMIN/x",
    in_mixed_case: "/aDmIn",
    an_escaped_letter: "/%61dmin",
    an_escaped_capital: "/%41DMIN",
    every_letter_escaped: "/%61%64%6d%69%6e",
    an_escaped_slash: "/admin%2fx",
    an_escaped_slash_in_capitals: "/admin%2Fx",
    an_escaped_first_slash: "/%2fadmin",
    an_escaped_backslash: "/admin%5cx",
    a_backslash: "/admin\\x",
    a_backslash_for_the_first_slash: "/x\\..\\admin",
    a_parameter: "/admin;x/y",
    a_parameter_before_it: "/x;/../admin",
    tomcats_two_dots: "/x/..;/admin",
    tomcats_two_dots_escaped: "/x/..%3b/admin",
    an_escaped_semicolon: "/admin%3bx",
    an_escaped_nul: "/admin%00",
    an_escaped_line: "/admin%0d%0aX:1",
    an_escaped_tab: "/admin%09",
    an_escaped_delete: "/admin%7f",
    a_letter_escaped_twice: "/%2561dmin",
    a_letter_escaped_three_times: "/%252561dmin",
    a_slash_escaped_twice: "/admin%252fx",
    one_dot: "/./admin",
    one_dot_after_it: "/admin/.",
    one_dot_at_the_end: "/.",
    two_dots: "/x/../admin",
    two_dots_at_the_end: "/admin/x/..",
    two_escaped_dots: "/x/%2e%2e/admin",
    two_escaped_dots_in_capitals: "/x/%2E%2E/admin",
    a_dot_and_an_escaped_dot: "/x/.%2e/admin",
    an_escaped_dot_and_a_dot: "/x/%2e./admin",
    a_dot_escaped_twice: "/x/%252e%252e/admin",
    three_dots: "/x/.../admin",
    two_slashes: "//admin",
    two_slashes_after_it: "/admin//",
    two_slashes_in_the_midst: "/x//../admin",
    an_escape_without_digits: "/admin%",
    an_escape_with_one_digit: "/admin%2",
    an_escape_of_no_digits: "/%zzadmin",
    an_escape_of_microsofts: "/%u0061dmin",
    a_slash_by_an_escape_of_microsofts: "/x%u002fadmin",
    an_overlong_slash: "/x%c0%af..%c0%afadmin",
    an_overlong_letter: "/%c1%a1dmin",
    a_longer_overlong_slash: "/admin%e0%80%afx",
    a_byte_that_is_no_utf_8: "/admin%ff",
    a_surrogate: "/%ed%a0%80admin",
    an_escaped_question_mark: "/admin%3fx",
    an_escaped_question_mark_in_capitals: "/admin%3Fx",
    an_escaped_number_sign: "/admin%23",
    a_number_sign: "/admin#x",
    a_dot_at_the_end: "/admin.",
    dots_at_the_end_of_a_segment: "/admin../x",
    a_space_at_the_end: "/admin%20",
    a_space_at_the_end_of_a_segment: "/admin%20/x",
    a_dot_and_a_space_at_the_end: "/admin.%20",
    a_full_width_letter: "/%EF%BD%81dmin",
    full_width_capitals: "/%EF%BC%A1%EF%BC%A4%EF%BC%AD%EF%BC%A9%EF%BC%AE",
    a_space_before_the_path: " /admin",
    an_absolute_target: "https://api.example.com/admin",
    an_absolute_target_in_capitals: "HTTPS://API.EXAMPLE.COM/ADMIN",
    an_absolute_target_with_a_port: "https://api.example.com:443/admin",
    an_absolute_target_with_two_slashes: "https://api.example.com//admin",
    an_absolute_target_with_dots: "https://api.example.com/x/../admin",
} }

/// Rules about what clients escape, however the rule and the request write it.
fn is_closed_by((rule, path): (&str, &str)) {
    nothing_goes_to(&under(&["--deny-path", rule]).0, path);
}

cases! { is_closed_by {
    a_rule_in_utf_8_and_an_escape: ("/caf\u{e9}/**", "/caf%C3%A9/x"),
    a_rule_in_utf_8_and_an_escaped_capital: ("/caf\u{e9}/**", "/CAF%C3%89"),
    a_rule_in_escapes_in_small_letters: ("/caf%C3%A9/**", "/caf%c3%a9"),
    a_rule_with_a_space: ("/a b/**", "/a%20b/c"),
    a_rule_with_a_colon: ("/models/*:delete", "/models/m%3Adelete"),
    a_rule_with_an_at_sign: ("/users/@me/**", "/users/%40me"),
    a_rule_with_an_exclamation_mark: ("/a!b", "/a%21b"),
    a_rule_with_an_escape_that_is_sent_plainly: ("/users/%40me", "/users/@me"),
    a_rule_with_a_slash_at_its_end: ("/admin/", "/admin"),
    a_rule_for_a_kelvin_sign: ("/keys/**", "/%E2%84%AAeys"),
    a_rule_for_a_long_s: ("/users/**", "/u%C5%BFers"),
    a_star_within_a_segment: ("/x/*/secret", "/x/%40/secret"),
} }

/// Ordinary paths pass, byte for byte.
fn passes_as_it_is(path: &str) {
    let (world, key) = under(&["--deny-path", "/admin/**"]);
    let reply = inside(&world.agent(), "GET", path, "");
    assert_eq!(reply.status, 200, "{reply:?}");
    let got = world.origin.last();
    assert_eq!((got.target.as_str(), got.values("authorization")), (path, vec![format!("Bearer {key}")]));
    super::audited(&world.home, &["\"decision\":\"injected\"", "\"credential\":\"ruled\""]);
    is_well(&world);
}

cases! { passes_as_it_is {
    the_root: "/",
    a_longer_name: "/administrator",
    the_name_further_down: "/x/admin",
    a_space: "/a%20b",
    escapes_of_utf_8: "/%C3%A9/%E6%97%A5%E6%9C%AC",
    a_sharp_s: "/stra%C3%9Fe",
    dots_within_a_segment: "/compare/main...feature",
    a_dot_before_a_name: "/.well-known/x",
    a_tilde_and_a_comma: "/~user/a,b",
    a_colon: "/v1/models/x:generate",
    the_path_in_the_query: "/?path=/admin",
    dots_and_slashes_in_the_query: "/x?../admin//%61%2f%3b;",
    a_question_mark_in_the_query: "/x?a?/admin",
    an_empty_query: "/x?",
} }

/// With `--path`, what is not opened is closed, in exactly the bytes sent.
fn is_not_opened(path: &str) {
    nothing_goes_to(&under(&["--path", "/v1/**"]).0, path);
}

cases! { is_not_opened {
    outside: "/v2/x",
    above: "/",
    a_longer_beginning: "/v10/x",
    the_beginning_in_capitals: "/V1/x",
    the_opened_path_in_the_query: "/x?/v1/x",
    two_dots_out_of_it: "/v1/../admin",
    escaped_dots_out_of_it: "/v1/%2e%2e/admin",
    tomcats_dots_out_of_it: "/v1/..;/admin",
    a_backslash_out_of_it: "/v1/..\\admin",
    an_escaped_slash_out_of_it: "/v1/..%2fadmin",
    two_slashes_within_it: "/v1//x",
    an_escaped_beginning: "/%761/x",
    an_escaped_query_within_it: "/v1/x%3f/../../admin",
    overlong_dots_out_of_it: "/v1/%c0%ae%c0%ae/admin",
    a_full_width_beginning: "/%EF%BD%961/x",
    an_absolute_target_outside: "https://api.example.com/admin",
    an_absolute_target_without_a_path: "https://api.example.com",
} }

/// No path at all is none that a rule opens.
#[test]
fn an_asterisk_is_no_opened_path() {
    let (world, _) = under(&["--path", "/v1/**"]);
    let reply = inside(&world.agent(), "OPTIONS", "*", "");
    assert!(matches!(reply.status, 400 | 403), "{reply:?}");
    audit_says(&world, "denied", if reply.status == 400 { "bad_request" } else { "path_denied" });
    nothing_was_sent(&world);
    is_well(&world);
}

/// What an origin got of a request that carried such a field, in its head and as a trailer, over both protocols.
fn with_field(world: &World, field: &str) -> Vec<Recorded> {
    let agent = world.agent();
    world.origin.forget();
    assert_eq!(inside(&agent, "POST", "/v1/x", &format!("{field}\r\nX-Kept: 1\r\nContent-Length: 0\r\n")).status, 200);
    let chunked = agent.open(&format!("{RULED}:443")).ask(format!(
        "POST /v1/x HTTP/1.1\r\nHost: {RULED}\r\nX-Kept: 1\r\nTE: trailers\r\nConnection: TE\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n{field}\r\nX-Kept-Too: 1\r\n\r\n"
    ));
    assert_eq!(chunked.status, 200);
    let (name, value) = field.split_once(": ").unwrap();
    let told = run(async {
        let request = http::Request::builder().method("POST").uri(format!("https://{RULED}/v1/x")).header(name, value).header("x-kept", "1");
        told(http2(world, &agent).await.request(request.body(()).unwrap(), true).await.0.unwrap()).await
    });
    assert_eq!(told.0, 200);
    world.origin.recorded()
}

/// Fields that ask for another method or path than the rules saw do not arrive.
fn is_dropped(field: &str) {
    for rules in [&["--method", "GET", "--method", "POST"][..], &["--path", "/v1/**"], &["--deny-path", "/admin"]] {
        let (world, key) = under(rules);
        let got = with_field(&world, field);
        assert_eq!(got.len(), 3);
        let value = field.split_once(": ").unwrap().1;
        for request in &got {
            let all = request.fields.iter().chain(&request.trailers).collect::<Vec<_>>();
            assert!(all.iter().all(|(_, v)| v != value.as_bytes()), "{rules:?}: {all:?}");
            assert_eq!((request.value("x-kept").as_str(), request.values("authorization")), ("1", vec![format!("Bearer {key}")]));
        }
        super::audited(&world.home, &["\"decision\":\"injected\"", "\"credential\":\"ruled\""]);
        is_well(&world);
    }
}

cases! { is_dropped {
    x_http_method_override: "X-HTTP-Method-Override: DELETE",
    x_http_method_override_in_small_letters: "x-http-method-override: DELETE",
    x_http_method_override_with_underscores: "X_HTTP_Method_Override: DELETE",
    x_http_method: "x-http-method: DELETE",
    x_method_override: "X-Method-Override: DELETE",
    x_method_override_in_part_with_underscores: "X_Method-Override: DELETE",
    x_original_method: "X-Original-Method: DELETE",
    x_original_url: "X-Original-URL: /admin",
    x_original_uri: "X-Original-URI: /admin",
    x_original_path: "X-Original-Path: /admin",
    x_rewrite_url: "X-Rewrite-URL: /admin",
    x_rewrite_url_with_underscores: "x_rewrite_url: /admin",
    x_rewrite_uri: "X-Rewrite-URI: /admin",
} }

/// Without rules they are the agent's own affair.
#[test]
fn such_fields_arrive_where_there_are_no_rules() {
    for field in ["X-HTTP-Method-Override: DELETE", "X-Original-URL: /admin", "x_rewrite_url: /admin"] {
        let (world, _) = under(&[]);
        let value = field.split_once(": ").unwrap().1;
        let got = with_field(&world, field);
        for request in [&got[0], &got[2]] {
            assert!(request.fields.iter().any(|(_, v)| v == value.as_bytes()), "{field}: {:?}", request.fields);
        }
        assert!(got[1].trailers.iter().any(|(_, v)| v == value.as_bytes()), "{field}: {:?}", got[1].trailers);
        is_well(&world);
    }
}

/// Methods other than those of `--method` are refused, whatever the query or the body say.
fn is_no_method(method: &str) {
    let (world, _) = under(&["--method", "GET", "--method", "POST"]);
    inside(&world.agent(), method, "/v1/x", "").expect_own(405, "method_denied");
    audit_says(&world, "denied", "method_denied");
    nothing_was_sent(&world);
    is_well(&world);
}

cases! { is_no_method {
    another: "DELETE",
    put: "PUT",
    options: "OPTIONS",
    small_letters: "get",
    a_longer_one: "GETS",
    a_shorter_one: "POS",
    a_method_of_webdav: "PROPFIND",
} }

/// The agent's own ways to authenticate in the query: what arrives of a target.
fn arrives_as((sent, expected): (&str, &str)) {
    let (world, key) = (World::agreeable(), fresh_key());
    world.home.ok_with(&["credential", "add", "gemini", "--allow", RULED, "--allow-weak"], &key);
    let agent = world.agent();
    within(super::SECOND, "felt", || agent.open(&format!("{RULED}:443")).intercepted().then_some(()));
    assert_eq!(inside(&agent, "GET", sent, "").status, 200);
    let told = run(async { http2(&world, &agent).await.get(&format!("https://{RULED}{sent}"), &[]).await });
    assert_eq!(told.0, 200);
    for got in world.origin.recorded() {
        assert_eq!((got.target.as_str(), got.values("x-goog-api-key")), (expected, vec![key.clone()]));
    }
    super::audited(&world.home, &["\"decision\":\"injected\"", "\"credential\":\"gemini\""]);
    is_well(&world);
}

cases! { arrives_as {
    a_key_of_its_own: ("/v1?key=own", "/v1"),
    a_key_among_others: ("/v1?a=1&key=own&b=2", "/v1?a=1&b=2"),
    two_keys: ("/v1?key=own&key=other&a", "/v1?a"),
    a_key_in_capitals: ("/v1?KEY=own", "/v1"),
    a_key_with_escapes: ("/v1?%6bey=own&k%65y=own", "/v1"),
    a_key_escaped_twice: ("/v1?%256bey=own", "/v1"),
    a_key_without_a_value: ("/v1?key&a", "/v1?a"),
    a_key_as_an_array: ("/v1?key[]=own&a", "/v1?a"),
    a_key_as_an_escaped_array: ("/v1?key%5B0%5D=own&a", "/v1?a"),
    a_key_before_a_nul: ("/v1?key%00x=own&a", "/v1?a"),
    a_key_between_spaces: ("/v1?+key%20=own&a", "/v1?a"),
    a_key_after_a_semicolon: ("/v1?a=1;key=own", "/v1?a=1"),
    a_token_with_a_hyphen: ("/v1?access-token=own&a", "/v1?a"),
    a_token_with_a_dot: ("/v1?access.token=own&oauth%20token=own&a", "/v1?a"),
    what_only_resembles_it: ("/v1?keys=1&monkey=2&a=key&key2=3", "/v1?keys=1&monkey=2&a=key&key2=3"),
} }

#[test]
fn a_placeholder_goes_nowhere_not_even_where_no_credential_is_for() {
    let world = World::agreeable();
    let agent = world.agent();
    let fields = [
        "Authorization: Bearer sk-or-keyhatch-placeholder-openrouter",
        "X-Api-Key: sk-or-keyhatch-placeholder-openrouter",
        "Cookie: key=sk-or-keyhatch-placeholder-openrouter",
        "X-Any: a, KEYHATCH-PLACEHOLDER-x, b",
    ];
    for field in fields {
        let reply = agent.open("openrouter.ai:443").ask(format!("GET / HTTP/1.1\r\nHost: openrouter.ai\r\n{field}\r\n\r\n"));
        assert_eq!(reply.status, 200, "{field}");
        let head = String::from_utf8_lossy(&world.origin.last().head).to_ascii_lowercase();
        assert!(!head.contains("placeholder"), "{field}: {head}");
        let plain = format!(
            "GET http://openrouter.ai/ HTTP/1.1\r\nHost: openrouter.ai\r\nProxy-Authorization: {{auth}}\r\nConnection: close\r\n{field}\r\n\r\n"
        );
        assert_eq!(agent.absolute(&plain).status, 200, "{field}");
        let head = String::from_utf8_lossy(&world.origin.last().head).to_ascii_lowercase();
        assert!(!head.contains("placeholder") && !head.contains("sk-or"), "{field}: {head}");
    }
}
