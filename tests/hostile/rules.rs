//! Ways round a credential's rules about paths and methods, and round the fields that the proxy alone fills in.

use crate::support::{World, fresh_key, within};

#[test]
fn no_spelling_of_a_closed_path_is_sent() {
    let world = World::agreeable();
    world.home.ok_with(&["credential", "add", "ruled", "--allow", "api.example.com", "--deny-path", "/admin/**"], &fresh_key());
    let agent = world.agent();
    within(super::SECOND, "felt", || agent.open("api.example.com:443").intercepted().then_some(()));
    let closed = [
        "/admin",
        "/admin/",
        "/admin?x",
        "/admin/x",
        "/ADMIN/x",
        "/aDmIn",
        "/%61dmin",
        "/%41DMIN",
        "/admin%2fx",
        "/admin%2Fx",
        "/admin%5cx",
        "/admin\\x",
        "/admin;x/y",
        "/admin%3bx",
        "/admin%00",
        "/admin%0d%0aX:1",
        "/%2561dmin",
        "/./admin",
        "/x/../admin",
        "/x/%2e%2e/admin",
        "/x/.%2e/admin",
        "//admin",
        "/x//../admin",
        "/admin%",
        "/admin%2",
        "/%zzadmin",
        "/%u0061dmin",
        "https://api.example.com/admin",
        "https://api.example.com//admin",
    ];
    for path in closed {
        let reply = agent.open("api.example.com:443").get("api.example.com", path);
        assert!(matches!((reply.status, reply.values("proxy-status").len()), (403 | 400, 1)), "{path}: {reply:?}");
    }
    assert!(world.origin.recorded().is_empty(), "{:?}", world.origin.recorded().iter().map(|r| &r.target).collect::<Vec<_>>());
    for path in ["/", "/administrator", "/x/admin", "/a%20b", "/%C3%A9", "/?/admin", "/x?../admin//%61"] {
        assert_eq!(agent.open("api.example.com:443").get("api.example.com", path).status, 200, "{path}");
        assert_eq!(world.origin.last().target, path);
    }
}

#[test]
fn a_field_cannot_ask_for_another_method_or_path_than_the_rules_saw() {
    let world = World::agreeable();
    world.home.ok_with(&["credential", "add", "reads", "--allow", "api.example.com", "--method", "GET", "--method", "POST"], &fresh_key());
    world.home.ok_with(&["credential", "add", "paths", "--allow", "example.net", "--path", "/v1/**"], &fresh_key());
    let agent = world.agent();
    within(super::SECOND, "felt", || agent.open("example.net:443").intercepted().then_some(()));
    for host in ["api.example.com", "example.net"] {
        for field in [
            "X-HTTP-Method-Override: DELETE",
            "x-http-method: DELETE",
            "X_Method_Override: DELETE",
            "X-Original-URL: /admin",
            "X-Rewrite-URL: /admin",
        ] {
            let reply = agent
                .open(&format!("{host}:443"))
                .ask(format!("POST /v1/x HTTP/1.1\r\nHost: {host}\r\n{field}\r\nX-Kept: 1\r\nContent-Length: 0\r\n\r\n"));
            assert_eq!(reply.status, 200, "{host} {field}: {reply:?}");
            let mut names: Vec<_> = world.origin.last().fields.iter().map(|(n, _)| n.to_ascii_lowercase()).collect();
            names.sort_unstable();
            assert_eq!(names, ["authorization", "content-length", "host", "x-kept"], "{host} {field}");
        }
    }
    world.origin.forget();
    for method in ["DELETE", "PUT", "get", "GETS", "OPTIONS"] {
        let reply = agent.open("api.example.com:443").ask(format!("{method} /v1/x HTTP/1.1\r\nHost: api.example.com\r\n\r\n"));
        reply.expect_own(405, "method_denied");
    }
    assert!(world.origin.recorded().is_empty());
}

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
