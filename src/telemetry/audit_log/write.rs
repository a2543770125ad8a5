//! Numbers, digests and addresses as text, straight into the buffer: `core::fmt` cost more than all else about a record.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

/// Appends a number in decimal.
pub(super) fn number(mut n: u64, out: &mut String) {
    // The largest has 20 digits.
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 {
            break;
        }
    }
    out.push_str(std::str::from_utf8(&digits[at..]).expect("digits are ASCII"));
}

/// Appends bytes as lower-case hex digits.
pub(super) fn hex<const N: usize>(bytes: &[u8; N], out: &mut String) {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    let mut pairs = [[0; 2]; N];
    for (pair, byte) in pairs.iter_mut().zip(bytes) {
        *pair = [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
    }
    out.push_str(std::str::from_utf8(pairs.as_flattened()).expect("digits are ASCII"));
}

/// Appends milliseconds with three digits behind the point.
pub(super) fn milliseconds(value: Duration, out: &mut String) {
    let us = u64::try_from(value.as_micros()).unwrap_or(u64::MAX);
    number(us / 1000, out);
    let rest = us % 1000;
    out.push_str(match rest {
        0..10 => ".00",
        10..100 => ".0",
        _ => ".",
    });
    number(rest, out);
}

/// Appends an address and port.
pub(super) fn address(address: SocketAddr, out: &mut String) {
    match address {
        SocketAddr::V4(v4) => {
            let [a, b, c, d] = v4.ip().octets();
            for (octet, after) in [(a, '.'), (b, '.'), (c, '.'), (d, ':')] {
                number(octet.into(), out);
                out.push(after);
            }
            number(v4.port().into(), out);
        }
        // Writing to a `String` cannot fail.
        SocketAddr::V6(_) => _ = write!(out, "{address}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl FnOnce(&mut String)) -> String {
        let mut out = String::new();
        write(&mut out);
        out
    }

    #[test]
    fn it_reads_as_the_standard_library_writes_it() {
        for n in [0, 1, 9, 10, 99, 100, 65_535, u64::MAX] {
            assert_eq!(text(|out| number(n, out)), n.to_string());
        }
        for us in [0, 7, 10, 99, 100, 999, 1000, 12_034, 2_000_000, u64::MAX] {
            let expected = format!("{}.{:03}", us / 1000, us % 1000);
            assert_eq!(text(|out| milliseconds(Duration::from_micros(us), out)), expected);
        }
        assert_eq!(text(|out| milliseconds(Duration::MAX, out)), "18446744073709551.615");
        for given in ["127.0.0.1:8080", "255.10.0.9:0", "[2001:db8::1]:443", "[::ffff:1.2.3.4]:65535"] {
            assert_eq!(text(|out| address(given.parse().expect("an address"), out)), given);
        }
        assert_eq!(text(|out| hex(&[0, 1, 0xab, 0xff], out)), "0001abff");
    }
}
