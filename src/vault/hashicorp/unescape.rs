//! Secrets out of JSON: serde_json would leave the pieces of a text with escapes in a buffer of its own, which nobody wipes.

use serde_json::value::RawValue;
use zeroize::Zeroizing;

/// The text of a JSON string (RFC 8259 section 7), in memory that is wiped and never grows; `None` where it is no string, or its
/// escapes make no text.
pub(super) fn unescaped(raw: &RawValue) -> Option<Zeroizing<String>> {
    let mut rest = raw.get().strip_prefix('"')?.strip_suffix('"')?;
    // No escape is shorter than what it stands for.
    let mut text = Zeroizing::new(String::with_capacity(rest.len()));
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        let (character, after) = escape(&rest[at + 1..])?;
        text.push(character);
        rest = after;
    }
    text.push_str(rest);
    Some(text)
}

/// What one escape stands for, after its backslash, and what follows it.
fn escape(text: &str) -> Option<(char, &str)> {
    let (kind, after) = text.split_at_checked(1)?;
    let character = match kind {
        "\"" | "\\" | "/" => kind.chars().next()?,
        "b" => '\u{8}',
        "f" => '\u{c}',
        "n" => '\n',
        "r" => '\r',
        "t" => '\t',
        "u" => return unicode(after),
        _ => return None,
    };
    Some((character, after))
}

/// Four hex digits, or two surrogates that make one character.
fn unicode(text: &str) -> Option<(char, &str)> {
    let (high, after) = unit(text)?;
    if !(0xd800..0xdc00).contains(&high) {
        return char::from_u32(high).map(|c| (c, after));
    }
    let (low, after) = unit(after.strip_prefix("\\u")?)?;
    let low = low.checked_sub(0xdc00).filter(|low| *low < 0x400)?;
    char::from_u32(0x1_0000 + ((high - 0xd800) << 10) + low).map(|c| (c, after))
}

fn unit(text: &str) -> Option<(u32, &str)> {
    let (digits, after) = text.split_at_checked(4)?;
    let is_hex = digits.bytes().all(|b| b.is_ascii_hexdigit());
    u32::from_str_radix(digits, 16).ok().filter(|_| is_hex).map(|n| (n, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(json: &str) -> Option<String> {
        let raw = serde_json::from_str::<&RawValue>(json).ok()?;
        let text = unescaped(raw)?;
        assert!(text.capacity() <= json.len(), "grown: {json}");
        Some(text.to_string())
    }

    #[test]
    fn texts_are_read_as_serde_json_reads_them() {
        let texts = [
            r#""""#,
            r#""plain \u00fc ü""#,
            r#""-----BEGIN KEY-----\nMIG+\/\\\"\r\n\t\b\f-----END KEY-----\n""#,
            r#""\ud83d\ude00 \u003c\u003e\u0026 \u2028 \u0000 \uFFFF""#,
            r#""\ud83d""#,
            r#""\ud83dx""#,
            r#""\ud83d\n""#,
            r#""\ud83d\u0041""#,
            r#""\ud83d\ud83d""#,
            r#""\ude00""#,
            r#""\\u0041""#,
            r#""\u004""#,
            r#""\u+041""#,
            r#""\x""#,
            r#""\""#,
            "12",
            "null",
            "{}",
        ];
        for json in texts {
            assert_eq!(ours(json), serde_json::from_str::<String>(json).ok(), "{json}");
        }
        for n in (0..0x1_1000).chain([0x10_ffff]).filter_map(char::from_u32) {
            let mut units = [0; 2];
            let escaped = n.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")).collect::<String>();
            assert_eq!(ours(&format!("\"{escaped}\"")), Some(n.to_string()));
        }
    }

    #[test]
    fn no_answer_is_read_into_a_text_of_serde_json() {
        let reader = include_str!("answers.rs");
        assert!(!reader.contains("from_str::<String>") && reader.contains("unescaped("), "a secret must come through `unescaped`");
    }
}
