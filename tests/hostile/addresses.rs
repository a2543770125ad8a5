//! Addresses that are off limits, by every way of writing them; the proxy's own listeners always.

use crate::support::{Agent, Home, Serve};

#[test]
fn the_proxys_own_listeners_are_refused_by_every_address_that_leads_there() {
    for listen in ["127.0.0.1:0", "0.0.0.0:0", "[::]:0"] {
        let home = Home::bare(&format!(
            "[proxy]\nlisten = \"{listen}\"\nallow_cleartext = true\n[egress]\nprivate_addresses = \"allow\"\nallow_hosts = [\"*:*\"]\n"
        ));
        home.ok(&["init"]);
        let serve = Serve::start(&home);
        let mut agent = Agent::new(&home, &serve);
        agent.proxy = format!("127.0.0.1:{}", serve.proxy().port()).parse().unwrap();
        for port in [serve.proxy().port(), serve.admin().port()] {
            for host in [
                "127.0.0.1",
                "localhost",
                "0x7f.1",
                "2130706433",
                "0.0.0.0",
                "127.0.0.2",
                "127.255.255.254",
                "[::1]",
                "[::ffff:127.0.0.1]",
                "[::]",
                "[::ffff:0.0.0.0]",
            ] {
                let (reply, mut stream) = agent.connect(&format!("{host}:{port}"));
                // An address on which the listener is not open is no listener of ours: then nobody accepts.
                assert!(matches!(reply.status, 403 | 502), "{listen} {host}:{port}: {reply:?}, then {}", super::rest_of(&mut stream));
                if reply.status == 403 {
                    reply.expect_own(403, "private_address");
                }
            }
        }
    }
}

#[test]
fn private_addresses_are_refused_by_name_and_in_every_form() {
    let home = Home::bare("[egress]\nports = [80, 443, 22, 8080]\n");
    home.ok(&["init"]);
    let serve = Serve::start(&home);
    let agent = Agent::new(&home, &serve);
    let hosts = [
        "localhost",
        "LOCALHOST.",
        "any.localhost",
        "127.1",
        "0177.0.0.1",
        "0x7f000001",
        "127.0.0.1.",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "169.254.169.254",
        "0xa9fea9fe",
        "2852039166",
        "168.63.129.16",
        "192.0.0.192",
        "198.18.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "0.0.0.0",
        "0",
        "[::]",
        "[::1]",
        "[fe80::1]",
        "[fd00:ec2::254]",
        "[ff02::1]",
        "[::ffff:10.0.0.1]",
        "[::ffff:a9fe:a9fe]",
        "[::127.0.0.1]",
        "[64:ff9b::10.0.0.1]",
        "[2002:a00:1::]",
        "[2001:0:a00:1::1]",
        "[2001:db8::1]",
    ];
    for host in hosts {
        for port in [80, 443] {
            let (reply, _) = agent.connect(&format!("{host}:{port}"));
            reply.expect_own(403, "private_address");
        }
        let named = host.trim_end_matches('.');
        let reply = agent.absolute(&format!(
            "GET http://{host}/latest/meta-data HTTP/1.1\r\nHost: {named}\r\nProxy-Authorization: {{auth}}\r\nConnection: close\r\n\r\n"
        ));
        reply.expect_own(403, "private_address");
    }
    for host in ["[fe80::1%25lo]", "[::1", "1.2.3.4.5", "256.0.0.1", "127.0.0.1%00", "0x7f.0x0.0x0.0x100"] {
        assert_eq!(agent.connect(&format!("{host}:443")).0.status, 400, "{host}");
    }
}
