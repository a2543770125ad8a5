//! Requests in absolute form, which name their host in the target and in `Host`.

use super::{audit_says, cases, is_well, nothing_was_sent, raw, record_of};
use crate::support::World;

/// Sends the request to the proxy's own port and gives all that comes back.
fn ask(world: &World, uri: &str, version: &str, host: Option<&str>) -> String {
    let host = host.map_or_else(String::new, |host| format!("Host: {host}\r\n"));
    raw(&world.agent(), &format!("GET {uri} HTTP/{version}\r\n{host}Proxy-Authorization: {{auth}}\r\nConnection: close\r\n\r\n"))
}

cases! { goes_where_the_uri_says {
    uri_and_host: ("http://openrouter.ai/x", "openrouter.ai", "/x"),
    uri_with_port_80_and_host_in_upper_case: ("http://openrouter.ai:80/x", "OPENROUTER.AI.", "/x"),
    uri_in_upper_case_and_host_with_port_80: ("HTTP://openrouter.ai", "openrouter.ai:80", "/"),
    uri_with_a_query_alone: ("http://openrouter.ai?y=1", "openrouter.ai", "/?y=1"),
} }

fn goes_where_the_uri_says((uri, host, sent): (&str, &str, &str)) {
    let world = World::agreeable();
    let all = ask(&world, uri, "1.1", Some(host));
    assert!(all.starts_with("HTTP/1.1 200 "), "{all}");
    let got = world.origin.last();
    assert_eq!((got.target.as_str(), got.value("host").as_str(), got.tls), (sent, "openrouter.ai", false));
    assert!(got.values("authorization").is_empty() && got.values("proxy-authorization").is_empty(), "plain HTTP is bare: {got:?}");
    assert_eq!(record_of(&world, "ok")["decision"].as_str(), Some("forwarded"));
    is_well(&world);
}

cases! { names_two_hosts {
    uri_and_another_host: ("http://openrouter.ai/x", "1.1", Some("evil.example")),
    uri_and_a_host_at_443: ("http://openrouter.ai/x", "1.1", Some("openrouter.ai:443")),
    uri_and_an_empty_host: ("http://openrouter.ai/x", "1.1", Some("")),
    uri_and_no_host: ("http://openrouter.ai/x", "1.1", None),
    uri_and_a_host_with_a_user: ("http://openrouter.ai/x", "1.1", Some("user@openrouter.ai")),
    uri_and_a_host_in_utf_8: ("http://openrouter.ai/x", "1.1", Some("openrouter\u{3002}ai")),
    uri_with_a_user_and_a_password: ("http://user:pass@openrouter.ai/x", "1.1", Some("openrouter.ai")),
    uri_with_a_user_that_is_the_host: ("http://openrouter.ai@evil.example/x", "1.1", Some("openrouter.ai")),
    uri_at_8443_and_a_host_without_a_port: ("http://openrouter.ai:8443/x", "1.1", Some("openrouter.ai")),
    uri_at_a_port_that_wraps_to_80: ("http://openrouter.ai:65616/x", "1.1", Some("openrouter.ai")),
    uri_without_a_host: ("http:///x", "1.1", Some("openrouter.ai")),
    uri_with_an_escaped_dot: ("http://openrouter%2eai/x", "1.1", Some("openrouter.ai")),
    uri_with_two_trailing_dots: ("http://openrouter.ai../x", "1.1", Some("openrouter.ai")),
    uri_with_a_fragment: ("http://openrouter.ai/x#y", "1.1", Some("openrouter.ai")),
    uri_in_https_and_another_host: ("https://openrouter.ai/x", "1.1", Some("evil.example")),
    uri_in_https_and_another_host_of_the_credential: ("https://openrouter.ai/x", "1.1", Some("api.openrouter.ai")),
    uri_in_https_and_a_host_at_80: ("https://openrouter.ai/x", "1.1", Some("openrouter.ai:80")),
    uri_in_https_at_80_and_a_host_without_a_port: ("https://openrouter.ai:80/x", "1.1", Some("openrouter.ai")),
    uri_in_https_with_a_user_that_is_the_host: ("https://openrouter.ai@evil.example/x", "1.1", Some("openrouter.ai")),
    uri_in_ftp: ("ftp://openrouter.ai/x", "1.1", Some("openrouter.ai")),
    uri_without_a_scheme: ("//openrouter.ai/x", "1.1", Some("openrouter.ai")),
    uri_without_slashes: ("openrouter.ai/x", "1.1", Some("openrouter.ai")),
    origin_form_to_the_proxy: ("/x", "1.1", Some("openrouter.ai")),
    in_http_1_0_uri_and_another_host: ("http://openrouter.ai/x", "1.0", Some("evil.example")),
    in_http_1_0_uri_in_https_and_another_host: ("https://openrouter.ai/x", "1.0", Some("evil.example")),
    in_http_1_0_uri_in_https_and_an_empty_host: ("https://openrouter.ai/x", "1.0", Some("")),
} }

fn names_two_hosts((uri, version, host): (&str, &str, Option<&str>)) {
    let world = World::agreeable();
    let all = ask(&world, uri, version, host);
    let code = match &all[9..12] {
        "400" => "bad_request",
        "421" => "misdirected",
        _ => panic!("neither 400 nor 421: {all}"),
    };
    audit_says(&world, "denied", code);
    nothing_was_sent(&world);
    assert_eq!(world.origin.accepted(), 0, "nothing was dialled");
    is_well(&world);
}
