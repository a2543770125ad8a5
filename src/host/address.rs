//! Which addresses are off limits.
//!
//! The blocks are data, `policy/special-purpose.csv`; this file adds the IPv6 forms that hold an IPv4 address, which
//! could otherwise lead round the table: a packet to `64:ff9b::7f00:1` may end at `127.0.0.1` of a translator.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use ipnet::IpNet;

/// Why an address is not connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// The registry's name of the block, such as `Loopback`.
    pub block: &'static str,
    /// The block itself.
    pub cidr: IpNet,
    /// The document that sets the block aside, such as `RFC 1918`.
    pub document: &'static str,
    /// Where not the address itself but the IPv4 address in it lies in the block: that address.
    pub embedded: Option<Embedded>,
}

/// An IPv4 address inside an IPv6 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Embedded {
    /// The form that holds it, such as `NAT64`.
    pub form: &'static str,
    /// The address it holds.
    pub ipv4: Ipv4Addr,
}

impl fmt::Display for Refusal {
    /// `Private-Use (10.0.0.0/8, RFC 1918)`, with `10.0.0.1 in the NAT64 form: ` before it where it is embedded.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Embedded { form, ipv4 }) = self.embedded {
            write!(f, "{ipv4} in the {form} form: ")?;
        }
        write!(f, "{} ({}, {})", self.block, self.cidr, self.document)
    }
}

/// Whether and why an address is refused unless allowed: it lies in a block that is not marked globally reachable, or
/// holds an IPv4 address that does. The embedded address is the reason that is told first.
#[must_use]
pub fn refusal(ip: IpAddr) -> Option<Refusal> {
    refusals(ip).next().map(|(_, refusal)| refusal)
}

/// Every reason to refuse an address, each with the address that it is about: those of the IPv4 addresses in it, then its own.
/// Whoever lets one of them pass has not let the others pass.
pub fn refusals(ip: IpAddr) -> impl Iterator<Item = (IpAddr, Refusal)> {
    let closed = |ip: IpAddr| TABLE.of(ip).filter(|row| !row.reachable);
    let held = held_by(ip).filter_map(move |held| Some((IpAddr::V4(held.ipv4), closed(held.ipv4.into())?.refusal(Some(held)))));
    held.chain(closed(ip).map(|row| (ip, row.refusal(None))))
}

/// The addresses at which a connection to this one may end: itself, and the IPv4 addresses that it holds.
pub fn ends(ip: IpAddr) -> impl Iterator<Item = IpAddr> {
    held_by(ip).map(|held| IpAddr::V4(held.ipv4)).chain([ip])
}

fn held_by(ip: IpAddr) -> impl Iterator<Item = Embedded> {
    let held = match ip {
        IpAddr::V4(_) => [None, None],
        IpAddr::V6(ip) => embedded(ip),
    };
    held.into_iter().flatten()
}

/// The IPv4 addresses that an IPv6 address may stand for. Teredo names two: its server and its client.
fn embedded(ip: Ipv6Addr) -> [Option<Embedded>; 2] {
    let s = ip.segments();
    let held = |form, high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Some(Embedded { form, ipv4: Ipv4Addr::new(a, b, c, d) })
    };
    let last = |form| [held(form, s[6], s[7]), None];
    match s {
        // `::` and `::1` are addresses of IPv6's own (RFC 4291 2.5.2, 2.5.3).
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => [None, None],
        [0, 0, 0, 0, 0, 0, ..] => last("IPv4-compatible"),
        [0, 0, 0, 0, 0, 0xffff, ..] => last("IPv4-mapped"),
        [0, 0, 0, 0, 0xffff, 0, ..] => last("IPv4-translated"),
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => last("NAT64"),
        // RFC 6052 2.2: with a prefix of 48 bits the address lies round the octet of zeros, with one of 96 bits it is the end. Where its
        // first octet is zero, the other one is meant.
        [0x64, 0xff9b, 1, high, middle, low, ..] => {
            let round = (high >> 8 != 0).then(|| held("local-use NAT64", high, middle << 8 | low >> 8));
            let at_the_end = (s[6] >> 8 != 0).then(|| held("local-use NAT64", s[6], s[7]));
            [round.flatten(), at_the_end.flatten()]
        }
        [0x2002, high, low, ..] => [held("6to4", high, low), None],
        // RFC 4380 4: the client's address is stored with every bit turned.
        [0x2001, 0, high, low, _, _, client_high, client_low] => [held("Teredo server", high, low), held("Teredo client", !client_high, !client_low)],
        // RFC 5214 6.1: under any prefix, by the interface identifier alone.
        [_, _, _, _, 0 | 0x200, 0x5efe, ..] => last("ISATAP"),
        _ => [None, None],
    }
}

/// A row of `policy/special-purpose.csv`.
struct Row {
    cidr: IpNet,
    reachable: bool,
    name: &'static str,
    document: &'static str,
}

impl Row {
    fn refusal(&self, embedded: Option<Embedded>) -> Refusal {
        Refusal { block: self.name, cidr: self.cidr, document: self.document, embedded }
    }
}

/// The rows, longest prefix first, so that the first hit is the most specific one.
struct Table(Vec<Row>);

impl Table {
    /// The most specific row that holds an address.
    fn of(&self, ip: IpAddr) -> Option<&Row> {
        self.0.iter().find(|row| row.cidr.contains(&ip))
    }
}

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let mut rows: Vec<Row> = include_str!("../../policy/special-purpose.csv")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| parse_row(line).expect("a test reads every row of the table that is built in"))
        .collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.cidr.prefix_len()));
    Table(rows)
});

/// `block, yes|no, name, document, source`.
fn parse_row(line: &'static str) -> Option<Row> {
    let mut fields = line.split(',').map(str::trim);
    let cidr: IpNet = fields.next()?.parse().ok()?;
    let reachable = match fields.next()? {
        "yes" => true,
        "no" => false,
        _ => return None,
    };
    let (name, document, _source) = (fields.next()?, fields.next()?, fields.next()?);
    (fields.next().is_none() && cidr == cidr.trunc()).then_some(Row { cidr, reachable, name, document })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(ip: &str) -> Option<Refusal> {
        refusal(ip.parse().expect("an address"))
    }

    #[test]
    fn both_sides_of_every_border() {
        let lines = include_str!("../../policy/special-purpose.borders.csv").lines().filter(|l| !l.starts_with('#'));
        let mut seen = 0;
        for line in lines {
            let (ip, block) = line.split_once(',').expect(line);
            assert_eq!(why(ip).map_or("", |r| r.block), block.trim(), "{ip}");
            seen += 1;
        }
        assert!(seen > 170, "{seen}");
    }

    #[test]
    fn every_border_is_in_the_list() {
        let listed: Vec<IpAddr> = include_str!("../../policy/special-purpose.borders.csv")
            .lines()
            .filter(|l| !l.starts_with('#'))
            .map(|l| l.split(',').next().and_then(|ip| ip.parse().ok()).expect(l))
            .collect();
        for Row { cidr, .. } in &TABLE.0 {
            assert!(listed.contains(&cidr.network()) && listed.contains(&cidr.broadcast()), "{cidr}");
        }
    }

    #[test]
    fn metadata_services() {
        for ip in ["169.254.169.254", "169.254.170.2", "fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "192.0.0.192", "168.63.129.16"] {
            assert!(why(ip).is_some(), "{ip}");
        }
    }

    #[test]
    fn public_addresses() {
        for ip in ["1.1.1.1", "8.8.8.8", "104.18.2.115", "2606:4700::6812:273", "2a00:1450:4001::1", "64:ff9b::808:808"] {
            assert_eq!(why(ip), None, "{ip}");
        }
    }

    #[test]
    fn an_ipv4_address_inside() {
        for (ip, form, block) in [
            ("::ffff:127.0.0.1", "IPv4-mapped", "Loopback"),
            ("::ffff:0:10.0.0.1", "IPv4-translated", "Private-Use"),
            ("::192.168.0.1", "IPv4-compatible", "Private-Use"),
            ("64:ff9b::169.254.169.254", "NAT64", "Link Local"),
            ("64:ff9b:1::192.168.0.1", "local-use NAT64", "Private-Use"),
            ("64:ff9b:1:c0a8:0:100::", "local-use NAT64", "Private-Use"),
            ("2002:7f00:1::", "6to4", "Loopback"),
            ("2002:a00:1::808:808", "6to4", "Private-Use"),
            ("2001:0:a00:1::f7f7:f7f7", "Teredo server", "Private-Use"),
            ("2001:0:808:808::80ff:fffe", "Teredo client", "Loopback"),
            ("2606:4700::5efe:10.1.2.3", "ISATAP", "Private-Use"),
            ("2606:4700::200:5efe:127.0.0.1", "ISATAP", "Loopback"),
        ] {
            let r = why(ip).expect(ip);
            assert_eq!((r.embedded.expect(ip).form, r.block), (form, block), "{ip}");
        }
    }

    #[test]
    fn a_public_ipv4_address_inside_leaves_the_outer_block() {
        for (ip, block) in [
            ("::ffff:8.8.8.8", Some("IPv4-mapped Address")),
            ("::ffff:0:8.8.8.8", Some("IPv4-translated Address")),
            ("::8.8.8.8", Some("IPv4-Compatible Address (deprecated)")),
            ("64:ff9b::8.8.8.8", None),
            ("64:ff9b:1::8.8.8.8", Some("Local-Use IPv4/IPv6 Translation")),
            ("2002:808:808::", Some("6to4")),
            ("2001:0:808:808::f7f7:f7f7", Some("TEREDO")),
            ("2606:4700::5efe:8.8.8.8", None),
        ] {
            let r = why(ip);
            assert_eq!(r.map(|r| r.block), block, "{ip}");
            assert!(r.is_none_or(|r| r.embedded.is_none()), "{ip}");
        }
    }

    #[test]
    fn each_end_and_each_reason_is_told() {
        let ips = |list: &[&str]| list.iter().map(|ip| ip.parse().expect(ip)).collect::<Vec<IpAddr>>();
        for (ip, all, closed) in [
            ("8.8.8.8", &["8.8.8.8"][..], &[][..]),
            ("10.0.0.1", &["10.0.0.1"], &["10.0.0.1"]),
            ("64:ff9b::10.0.0.1", &["10.0.0.1", "64:ff9b::10.0.0.1"], &["10.0.0.1"]),
            ("64:ff9b:1::10.0.0.1", &["10.0.0.1", "64:ff9b:1::10.0.0.1"], &["10.0.0.1", "64:ff9b:1::10.0.0.1"]),
            ("2002:808:808::", &["8.8.8.8", "2002:808:808::"], &["2002:808:808::"]),
        ] {
            let address: IpAddr = ip.parse().expect(ip);
            assert_eq!(ends(address).collect::<Vec<_>>(), ips(all), "{ip}");
            assert_eq!(refusals(address).map(|(of, _)| of).collect::<Vec<_>>(), ips(closed), "{ip}");
        }
    }

    #[test]
    fn the_reason_reads_well() {
        assert_eq!(why("10.1.2.3").expect("refused").to_string(), "Private-Use (10.0.0.0/8, RFC 1918)");
        let inside = why("64:ff9b::127.0.0.1").expect("refused").to_string();
        assert_eq!(inside, "127.0.0.1 in the NAT64 form: Loopback (127.0.0.0/8, RFC 1122)");
    }

    #[test]
    fn a_bad_row_is_no_row() {
        for line in
            ["10.0.0.1/8, no, n, d, iana", "10.0.0.0/8, maybe, n, d, iana", "10.0.0.0/8, no, n, d", "10.0.0.0/8, no, n, d, s, x", "x, no, n, d, s"]
        {
            assert!(parse_row(line).is_none(), "{line}");
        }
    }
}
