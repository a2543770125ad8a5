//! What an escape may stand for: percent-escapes (RFC 3986 2.1) and those of JSON strings (RFC 8259 7).

/// One way to read an escape: the bytes that it stands for, and its length.
#[derive(Clone, Copy)]
pub(super) struct Reading {
    bytes: [u8; 4],
    count: u8,
    /// The length of the escape itself, in bytes.
    pub(super) length: u8,
}

impl Reading {
    fn byte(byte: u8, length: u8) -> Self {
        Self { bytes: [byte, 0, 0, 0], count: 1, length }
    }

    fn char(char: char, length: u8) -> Self {
        let mut bytes = [0; 4];
        let count = char.encode_utf8(&mut bytes).len() as u8;
        Self { bytes, count, length }
    }

    /// The bytes that it stands for; at least one.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.count)]
    }
}

/// What stands at a place where a `%` or a `\` is.
pub(super) enum Escape {
    /// No escape: the byte stands for itself.
    None,
    /// The data ends before it can be said.
    Cut,
    /// An escape with one or two readings: `\u00e9` is a character in UTF-8, or a byte taken for Latin-1.
    Read(Reading, Option<Reading>),
}

/// Whether a byte may begin an escape.
pub(super) fn introduces(byte: u8) -> bool {
    matches!(byte, b'%' | b'\\')
}

/// Whether the data at `at` is the second half of a surrogate pair, or may yet become one.
pub(super) fn is_low_surrogate(data: &[u8], at: usize) -> bool {
    matches!(hex::<4>(data, at + 2), Some(Ok(0xdc00..0xe000))) && data[at + 1] == b'u'
}

/// Reads the escape at `at`, where a byte that [`introduces`] one stands.
pub(super) fn read(data: &[u8], at: usize) -> Escape {
    if data[at] == b'%' {
        return match hex::<2>(data, at + 1) {
            Some(Ok(value)) => Escape::Read(Reading::byte(value as u8, 3), None),
            Some(Err(())) => Escape::None,
            None => Escape::Cut,
        };
    }
    let short = |byte| Escape::Read(Reading::byte(byte, 2), None);
    match data.get(at + 1) {
        None => Escape::Cut,
        Some(&byte @ (b'"' | b'\\' | b'/')) => short(byte),
        Some(b'b') => short(0x08),
        Some(b'f') => short(0x0c),
        Some(b'n') => short(b'\n'),
        Some(b'r') => short(b'\r'),
        Some(b't') => short(b'\t'),
        Some(b'u') => match hex::<4>(data, at + 2) {
            Some(Ok(value)) => unicode(data, at, value),
            Some(Err(())) => Escape::None,
            None => Escape::Cut,
        },
        Some(_) => Escape::None,
    }
}

fn unicode(data: &[u8], at: usize, value: u32) -> Escape {
    match (char::from_u32(value), u8::try_from(value)) {
        (Some(char), Ok(byte)) => Escape::Read(Reading::byte(byte, 6), (byte >= 0x80).then(|| Reading::char(char, 6))),
        (Some(char), Err(_)) => Escape::Read(Reading::char(char, 6), None),
        (None, _) if value < 0xdc00 => surrogates(data, at, value),
        (None, _) => Escape::None,
    }
}

/// The pair whose first half, `high`, stands at `at` (RFC 8259 7).
fn surrogates(data: &[u8], at: usize, high: u32) -> Escape {
    let second = |offset: usize, expected| data.get(at + offset).map(|&b| b == expected);
    match (second(6, b'\\'), second(7, b'u')) {
        (Some(false), _) | (_, Some(false)) => Escape::None,
        (None, _) | (_, None) => Escape::Cut,
        (Some(true), Some(true)) => match hex::<4>(data, at + 8) {
            Some(Ok(low @ 0xdc00..0xe000)) => char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00))
                .map_or(Escape::None, |char| Escape::Read(Reading::char(char, 12), None)),
            Some(_) => Escape::None,
            None => Escape::Cut,
        },
    }
}

/// The value of `N` hex digits at `at`: `Err` where a byte is none, `None` where the data ends before that is known.
fn hex<const N: usize>(data: &[u8], at: usize) -> Option<Result<u32, ()>> {
    let mut value = 0;
    for place in at..at + N {
        match char::from(*data.get(place)?).to_digit(16) {
            Some(digit) => value = value << 4 | digit,
            None => return Some(Err(())),
        }
    }
    Some(Ok(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A text, what its first escape may stand for, and how long that is.
    type Row<'a> = (&'a [u8], &'a [&'a [u8]], usize);

    #[test]
    fn readings() {
        let table: [Row<'_>; 12] = [
            (b"%41!", &[b"A"], 3),
            (b"%e9!", &[b"\xe9"], 3),
            (b"\\/!", &[b"/"], 2),
            (b"\\\\!", &[b"\\"], 2),
            (b"\\n!", &[b"\n"], 2),
            (b"\\u0041!", &[b"A"], 6),
            (b"\\u00E9!", &[b"\xe9", "é".as_bytes()], 6),
            (b"\\u20ac!", &["€".as_bytes()], 6),
            (b"\\ud83d\\ude00!", &["😀".as_bytes()], 12),
            (b"%4g", &[], 0),
            (b"\\x41", &[], 0),
            (b"\\ud83d!", &[], 0),
        ];
        for (text, expected, length) in table {
            let got: Vec<Reading> = match read(text, 0) {
                Escape::Read(first, second) => std::iter::once(first).chain(second).collect(),
                Escape::None => vec![],
                Escape::Cut => panic!("cut {text:?}"),
            };
            assert_eq!(got.iter().map(Reading::bytes).collect::<Vec<_>>(), expected, "{text:?}");
            assert!(got.iter().all(|r| usize::from(r.length) == length), "{text:?}");
            for end in 1..length {
                assert!(matches!(read(&text[..end], 0), Escape::Cut), "{text:?} cut at {end}");
            }
        }
        assert!(is_low_surrogate(b"\\ude00", 0) && !is_low_surrogate(b"\\u0041", 0) && !is_low_surrogate(b"\\ude", 0));
    }
}
