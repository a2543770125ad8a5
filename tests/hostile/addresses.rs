//! Addresses that are off limits, by every way of writing them.

use super::case::{audit_says, cases, is_well, nothing_was_sent};
use crate::support::over_h2::{code, over, run, told};
use crate::support::world::HOSTS;
use crate::support::{Origin, World, fresh_key};

/// A world whose origin's port is open to every host: what gets past the guard on loopback arrives there.
fn world() -> (World, u16) {
    let origin = Origin::agreeable(&HOSTS);
    let port = origin.address().port();
    (World::with_configuration(origin, fresh_key(), &format!("[egress]\nports = [80, 443, {port}]\n")), port)
}

/// Refused as a CONNECT, over both protocols, and in absolute form; the log names the block.
fn is_closed((host, block): (&str, &str)) {
    let (world, port) = world();
    let agent = world.agent();
    for port in [port, 443] {
        agent.connect(&format!("{host}:{port}")).0.expect_own(403, "private_address");
    }
    let absolute = agent.absolute(&format!(
        "GET http://{host}:{port}/latest/meta-data HTTP/1.1\r\nHost: {host}:{port}\r\nProxy-Authorization: {{auth}}\r\nConnection: close\r\n\r\n"
    ));
    absolute.expect_own(403, "private_address");
    assert!(!absolute.text().contains(block), "the reason is the operator's: {absolute:?}");
    if !host.ends_with('.') {
        let refused = run(async {
            let proxy = over(tokio::net::TcpStream::connect(agent.proxy).await.unwrap(), agent.authorization.clone()).await;
            told(proxy.connect_as(&format!("{host}:{port}"), Some(&agent.authorization)).await.0).await
        });
        assert_eq!(code(&refused), (403, "private_address"));
    }
    audit_says(&world, "denied", "private_address");
    assert!(world.serve.log().contains(block), "{block}: {}", world.serve.log());
    nothing_was_sent(&world);
    is_well(&world);
}

cases! { is_closed {
    localhost: ("localhost", "Loopback"),
    localhost_in_capitals_with_a_dot: ("LOCALHOST.", "Loopback"),
    a_name_below_localhost: ("any.localhost", "Loopback"),
    loopback: ("127.0.0.1", "Loopback"),
    loopback_with_a_dot: ("127.0.0.1.", "Loopback"),
    another_loopback: ("127.255.255.254", "Loopback"),
    loopback_in_two_parts: ("127.1", "Loopback"),
    loopback_in_octal: ("0177.0.0.1", "Loopback"),
    loopback_in_hexadecimal: ("0x7f000001", "Loopback"),
    loopback_in_mixed_parts: ("0x7f.0.1", "Loopback"),
    loopback_as_one_number: ("2130706433", "Loopback"),
    loopback_as_an_octal_number: ("017700000001", "Loopback"),
    zero: ("0", "This host"),
    the_unspecified_address: ("0.0.0.0", "This host"),
    this_network: ("0.1.2.3", "This network"),
    ten: ("10.0.0.1", "Private-Use"),
    one_seven_two: ("172.16.0.1", "Private-Use"),
    the_end_of_one_seven_two: ("172.31.255.255", "Private-Use"),
    one_nine_two: ("192.168.1.1", "Private-Use"),
    carriers_addresses: ("100.64.0.1", "Shared Address Space"),
    link_local_metadata: ("169.254.169.254", "Link Local"),
    metadata_in_hexadecimal: ("0xa9fea9fe", "Link Local"),
    metadata_as_one_number: ("2852039166", "Link Local"),
    metadata_of_containers: ("169.254.170.2", "Link Local"),
    azures_wire_server: ("168.63.129.16", "Azure WireServer"),
    oracles_metadata: ("192.0.0.192", "IETF Protocol Assignments"),
    alibabas_metadata: ("100.100.100.200", "Shared Address Space"),
    benchmarks: ("198.18.0.1", "Benchmarking"),
    documentation: ("203.0.113.7", "Documentation (TEST-NET-3)"),
    the_relay_of_6to4: ("192.88.99.1", "Deprecated (6to4 Relay Anycast)"),
    multicast: ("224.0.0.1", "Multicast"),
    class_e: ("240.0.0.1", "Reserved"),
    broadcast: ("255.255.255.255", "Limited Broadcast"),
    ipv6_unspecified: ("[::]", "Unspecified Address"),
    ipv6_loopback: ("[::1]", "Loopback Address"),
    ipv6_loopback_in_full: ("[0:0:0:0:0:0:0:1]", "Loopback Address"),
    ipv6_link_local: ("[fe80::1]", "Link-Local Unicast"),
    ipv6_site_local: ("[fec0::1]", "Site-Local (deprecated)"),
    ipv6_unique_local_metadata: ("[fd00:ec2::254]", "Unique-Local"),
    ipv6_multicast: ("[ff02::1]", "Multicast"),
    ipv6_documentation: ("[2001:db8::1]", "Documentation"),
    ipv6_newer_documentation: ("[3fff::1]", "Documentation"),
    ipv6_segment_routing: ("[5f00::1]", "Segment Routing (SRv6) SIDs"),
    ipv6_discard: ("[100::1]", "Discard-Only Address Block"),
    ipv6_dummy: ("[100:0:0:1::1]", "Dummy IPv6 Prefix"),
    ipv6_of_nobody: ("[4000::1]", "Not Global Unicast"),
    ipv4_mapped: ("[::ffff:10.0.0.1]", "10.0.0.1 in the IPv4-mapped form"),
    ipv4_mapped_loopback: ("[::ffff:127.0.0.1]", "127.0.0.1 in the IPv4-mapped form"),
    ipv4_mapped_metadata_in_hexadecimal: ("[::ffff:a9fe:a9fe]", "169.254.169.254 in the IPv4-mapped form"),
    ipv4_mapped_public: ("[::ffff:8.8.8.8]", "IPv4-mapped Address"),
    ipv4_compatible: ("[::127.0.0.1]", "127.0.0.1 in the IPv4-compatible form"),
    ipv4_translated: ("[::ffff:0:127.0.0.1]", "127.0.0.1 in the IPv4-translated form"),
    nat64: ("[64:ff9b::10.0.0.1]", "10.0.0.1 in the NAT64 form"),
    nat64_metadata: ("[64:ff9b::a9fe:a9fe]", "169.254.169.254 in the NAT64 form"),
    local_use_nat64: ("[64:ff9b:1::10.0.0.1]", "10.0.0.1 in the local-use NAT64 form"),
    local_use_nat64_round_the_zeros: ("[64:ff9b:1:7f00:0:100::]", "127.0.0.1 in the local-use NAT64 form"),
    sixtofour: ("[2002:a00:1::]", "10.0.0.1 in the 6to4 form"),
    teredos_server: ("[2001:0:a00:1::1]", "10.0.0.1 in the Teredo server form"),
    teredos_client: ("[2001:0:808:808::80ff:fffe]", "127.0.0.1 in the Teredo client form"),
    isatap: ("[2606:4700::5efe:10.1.2.3]", "10.1.2.3 in the ISATAP form"),
} }

/// What could be read as an address, and is none, is refused as it stands.
fn is_no_host(host: &str) {
    let (world, port) = world();
    let agent = world.agent();
    agent.connect(&format!("{host}:{port}")).0.expect_own(400, "bad_request");
    let head = format!("GET http://{host}:{port}/ HTTP/1.1\r\nHost: {host}\r\nProxy-Authorization: {{auth}}\r\nConnection: close\r\n\r\n");
    assert_eq!(agent.absolute(&head).status, 400);
    audit_says(&world, "denied", "bad_request");
    nothing_was_sent(&world);
    is_well(&world);
}

cases! { is_no_host {
    a_zone: "[fe80::1%25lo]",
    a_zone_on_loopback: "[::1%25lo]",
    an_open_bracket: "[::1",
    an_address_without_brackets: "::1",
    five_parts: "1.2.3.4.5",
    a_part_that_is_too_great: "256.0.0.1",
    a_last_part_that_is_too_great: "0x7f.0x0.0x0.0x100",
    a_number_that_is_too_great: "4294967297",
    an_octal_digit_too_much: "0177.0.0.08",
    an_escaped_nul: "127.0.0.1%00",
    an_escaped_dot: "127%2e0.0.1",
    two_dots_at_the_end: "127.0.0.1..",
    an_address_in_brackets_that_is_ipv4: "[127.0.0.1]",
    a_user_before_it: "openrouter.ai@127.0.0.1",
} }

/// An operator's exception opens what it names, and no IPv4 address behind an IPv6 form that it names.
#[test]
fn an_exception_for_a_translators_block_opens_nothing_behind_it() {
    let origin = Origin::agreeable(&HOSTS);
    let port = origin.address().port();
    let more = format!("[egress]\nports = [{port}]\nallow_cidrs = [\"64:ff9b:1::/48\", \"2002::/16\", \"::ffff:0:0/96\", \"127.0.0.1\"]\n");
    let world = World::with_configuration(origin, fresh_key(), &more);
    let agent = world.agent();
    for host in ["[64:ff9b:1::10.0.0.1]", "[2002:a00:1::]", "[::ffff:10.0.0.1]", "127.0.0.2", "[::1]", "10.0.0.1"] {
        agent.connect(&format!("{host}:{port}")).0.expect_own(403, "private_address");
    }
    audit_says(&world, "denied", "private_address");
    nothing_was_sent(&world);
    for host in ["127.0.0.1", "[::ffff:127.0.0.1]"] {
        assert_eq!(agent.connect(&format!("{host}:{port}")).0.status, 200, "{host}");
    }
    is_well(&world);
}
