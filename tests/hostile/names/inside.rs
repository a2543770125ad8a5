//! Requests inside a tunnel to `openrouter.ai:443`, over TLS and in plaintext.

use std::io::Write as _;

use super::{came_with_the_key, cases, is_refused, is_well, record_of};
use crate::support::raw::read_reply;
use crate::support::world::{HOSTS, configuration};
use crate::support::{Home, Origin, Serve, World, fresh_key};

cases! { goes_to_the_connect_host {
    as_it_is: ("/x", "openrouter.ai", "/x"),
    host_in_upper_case_with_a_trailing_dot: ("/x", "OpenRouter.AI.", "/x"),
    host_with_the_port: ("/x", "openrouter.ai:443", "/x"),
    host_with_an_empty_port: ("/x", "openrouter.ai:", "/x"),
    host_with_a_zero_before_the_port: ("/x", "openrouter.ai:0443", "/x"),
    a_path_like_an_authority: ("//evil.example/x", "openrouter.ai", "//evil.example/x"),
    an_absolute_target: ("https://openrouter.ai/x?y", "openrouter.ai", "/x?y"),
    an_absolute_target_in_upper_case: ("HTTPS://OPENROUTER.AI:443/x", "openrouter.ai", "/x"),
    an_absolute_target_without_a_path: ("https://openrouter.ai", "openrouter.ai", "/"),
    an_absolute_target_with_a_query_alone: ("https://openrouter.ai?y=1", "openrouter.ai", "/?y=1"),
    an_absolute_target_with_another_in_its_path: ("https://openrouter.ai/https://evil.example/", "openrouter.ai", "/https://evil.example/"),
} }

/// What is sent says `openrouter.ai`, however the request spelled it.
fn goes_to_the_connect_host((target, host, sent): (&str, &str, &str)) {
    let world = World::agreeable();
    let reply = world.agent().open("openrouter.ai:443").ask(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    assert_eq!(reply.status, 200, "{reply:?}");
    came_with_the_key(&world, sent);
    is_well(&world);
}

cases! { names_another_host {
    host_port_80: ("/x", "openrouter.ai:80"),
    host_port_8443: ("/x", "openrouter.ai:8443"),
    host_with_two_ports: ("/x", "openrouter.ai:443:443"),
    host_with_a_port_that_wraps_to_443: ("/x", "openrouter.ai:65979"),
    host_with_port_0: ("/x", "openrouter.ai:0"),
    host_with_a_signed_port: ("/x", "openrouter.ai:+443"),
    host_with_a_space_before_the_port: ("/x", "openrouter.ai: 443"),
    host_with_two_trailing_dots: ("/x", "openrouter.ai.."),
    host_with_a_leading_dot: ("/x", ".openrouter.ai"),
    host_with_a_user: ("/x", "user@openrouter.ai"),
    host_behind_a_user_that_is_the_host: ("/x", "openrouter.ai@evil.example"),
    host_as_a_list: ("/x", "openrouter.ai, evil.example"),
    host_with_a_path: ("/x", "openrouter.ai/evil.example"),
    host_with_a_query: ("/x", "openrouter.ai?evil.example"),
    host_with_a_fragment: ("/x", "openrouter.ai#evil.example"),
    host_with_a_backslash: ("/x", "openrouter.ai\\.evil.example"),
    host_with_a_space: ("/x", "openrouter.ai evil.example"),
    host_with_a_tab: ("/x", "openrouter.ai\tevil.example"),
    host_with_a_control_character: ("/x", "openrouter.ai\u{1}"),
    host_with_a_nul: ("/x", "openrouter.ai\0"),
    host_with_a_scheme: ("/x", "https://openrouter.ai"),
    host_with_an_escaped_dot: ("/x", "openrouter%2eai"),
    host_in_brackets: ("/x", "[openrouter.ai]"),
    host_with_an_ideographic_full_stop: ("/x", "openrouter\u{3002}ai"),
    host_with_a_full_width_letter: ("/x", "\u{ff4f}penrouter.ai"),
    host_with_a_zero_width_space: ("/x", "openrouter.ai\u{200b}"),
    host_that_is_an_address: ("/x", "127.0.0.1"),
    host_that_is_an_address_in_hexadecimal: ("/x", "0x7f.1"),
    host_empty: ("/x", ""),
    host_that_is_a_port: ("/x", ":443"),
    host_that_the_same_credential_covers: ("/x", "api.openrouter.ai"),
    host_that_a_wildcard_could_mean: ("/x", "*.openrouter.ai"),
    host_with_the_name_before_it: ("/x", "openrouter.ai.evil.example"),
    target_in_http: ("http://openrouter.ai/x", "openrouter.ai"),
    target_in_http_with_port_443: ("http://openrouter.ai:443/x", "openrouter.ai"),
    target_in_wss: ("wss://openrouter.ai/x", "openrouter.ai"),
    target_at_another_port: ("https://openrouter.ai:8443/x", "openrouter.ai"),
    target_at_another_port_that_host_has_too: ("https://openrouter.ai:8443/x", "openrouter.ai:8443"),
    target_at_another_host: ("https://evil.example/x", "openrouter.ai"),
    target_at_another_host_that_host_has_too: ("https://api.openrouter.ai/x", "api.openrouter.ai"),
    target_with_a_user: ("https://user@openrouter.ai/x", "openrouter.ai"),
    target_with_a_user_that_is_the_host: ("https://openrouter.ai@evil.example/x", "openrouter.ai"),
    target_with_an_empty_user: ("https://@openrouter.ai/x", "openrouter.ai"),
    target_with_an_escaped_host: ("https://openrouter%2eai/x", "openrouter.ai"),
    target_without_a_host: ("https:///x", "openrouter.ai"),
    target_with_a_backslash: ("https://openrouter.ai\\@evil.example/x", "openrouter.ai"),
    target_in_ftp: ("ftp://openrouter.ai/x", "openrouter.ai"),
    target_in_a_file: ("file:///etc/passwd", "openrouter.ai"),
    target_as_the_host_with_another_host: ("https://openrouter.ai/x", "evil.example"),
    target_as_the_host_with_the_same_at_another_port: ("https://openrouter.ai/x", "openrouter.ai:80"),
    target_as_an_authority: ("openrouter.ai:443", "openrouter.ai"),
} }

fn names_another_host((target, host): (&str, &str)) {
    let world = World::agreeable();
    let mut conn = world.agent().open("openrouter.ai:443");
    // What follows is a request of its own, or nothing: where the connection stays it is decided on by its own names.
    let reply = conn.ask(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\nGET /behind HTTP/1.1\r\nHost: evil.example\r\n\r\n"));
    is_refused(&world, &reply);
    assert!(!conn.read_rest().contains("HTTP/1.1 2"));
    is_refused(&world, &reply);
    is_well(&world);
}

cases! { without_an_agreeing_host {
    http_1_0_with_another_host: "GET /x HTTP/1.0\r\nHost: evil.example\r\n\r\n",
    http_1_0_with_a_target_at_another_host: "GET https://evil.example/x HTTP/1.0\r\n\r\n",
    http_1_0_with_two_hosts: "GET /x HTTP/1.0\r\nHost: openrouter.ai\r\nHost: evil.example\r\n\r\n",
    http_1_1_with_two_hosts: "GET /x HTTP/1.1\r\nHost: openrouter.ai\r\nHost: evil.example\r\n\r\n",
    http_1_1_without_a_host: "GET /x HTTP/1.1\r\n\r\n",
    an_asterisk_with_another_host: "OPTIONS * HTTP/1.1\r\nHost: evil.example\r\n\r\n",
} }

fn without_an_agreeing_host(request: &str) {
    let world = World::agreeable();
    let reply = world.agent().open("openrouter.ai:443").ask(request);
    is_refused(&world, &reply);
    is_well(&world);
}

/// HTTP/1.0 needs no `Host`: then the CONNECT's counts.
#[test]
fn http_1_0_without_a_host_goes_to_the_connect_host() {
    let world = World::agreeable();
    assert_eq!(world.agent().open("openrouter.ai:443").ask("GET /x HTTP/1.0\r\n\r\n").status, 200);
    came_with_the_key(&world, "/x");
    is_well(&world);
}

cases! { in_plaintext_it_names_another {
    plaintext_host_without_the_port_of_the_tunnel: ("443", "/x", "openrouter.ai"),
    plaintext_host_at_port_80_of_a_tunnel_to_443: ("443", "/x", "openrouter.ai:80"),
    plaintext_host_at_443_of_a_tunnel_to_80: ("80", "/x", "openrouter.ai:443"),
    plaintext_another_host: ("80", "/x", "evil.example"),
    plaintext_a_host_of_the_same_credential: ("80", "/x", "api.openrouter.ai"),
    plaintext_target_in_https: ("443", "https://openrouter.ai/x", "openrouter.ai:443"),
    plaintext_target_at_another_host: ("80", "http://evil.example/x", "openrouter.ai"),
    plaintext_target_at_another_port: ("80", "http://openrouter.ai:8443/x", "openrouter.ai"),
} }

/// A world where a credential covers port 80 too.
fn covered_at_80() -> World {
    let (origin, key, mut home) = (Origin::agreeable(&HOSTS), fresh_key(), Home::bare(""));
    home.configure(&configuration(&home, &origin, ""));
    home.init_with_key_file();
    home.add_key("real", &["*.openrouter.ai"], &key);
    home.add_key("port80", &["*.openrouter.ai:80"], &fresh_key());
    World { serve: Serve::start(&home), origin, home, key }
}

/// A tunnel that a credential covers, with HTTP in plaintext inside.
fn in_plaintext_it_names_another((port, target, host): (&str, &str, &str)) {
    let world = covered_at_80();
    let (reply, mut stream) = world.agent().connect(&format!("openrouter.ai:{port}"));
    assert_eq!(reply.status, 200, "{reply:?}");
    stream.write_all(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).unwrap();
    let reply = read_reply(&mut stream, None).unwrap();
    is_refused(&world, &reply);
    is_well(&world);
}

/// In plaintext what agrees goes on, without the key.
#[test]
fn plaintext_that_agrees_is_forwarded_without_the_key() {
    let world = World::agreeable();
    let (_, mut stream) = world.agent().connect("openrouter.ai:443");
    stream.write_all(b"GET /x HTTP/1.1\r\nHost: OPENROUTER.AI.:0443\r\n\r\n").unwrap();
    assert_eq!(read_reply(&mut stream, None).unwrap().status, 200);
    let got = world.origin.last();
    assert_eq!((got.value("host").as_str(), got.tls, got.values("authorization").len()), ("openrouter.ai:443", false, 0));
    assert_eq!(record_of(&world, "ok")["decision"].as_str(), Some("forwarded"));
    world.origin.forget();
    is_well(&world);
}
