//! Making strings that an agent chose harmless to look at.
//!
//! A control character can move a terminal's cursor, and a bidi or invisible one can make a line read as another. They are never written
//! as themselves, neither into the audit log nor onto a terminal.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Whether a character is escaped wherever it is shown: controls (C0, DEL, C1), bidi marks, line separators, invisible format characters.
#[must_use]
pub fn is_unsafe(c: char) -> bool {
    matches!(c,
        '\u{0}'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{ad}' | '\u{61c}' | '\u{180e}'
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

fn push_json_escape(c: char, out: &mut String) {
    for unit in c.encode_utf16(&mut [0; 2]) {
        // Writing to a `String` cannot fail.
        let _ = write!(out, "\\u{unit:04x}");
    }
}

/// Appends a JSON string, quotes included (RFC 8259 7), with every unsafe character as `\uXXXX`.
pub fn push_json_string(text: &str, out: &mut String) {
    out.push('"');
    // Nearly all is plain; looked at without a branch in between, that is a few instructions for many bytes.
    if text.bytes().fold(true, |plain, b| plain & matches!(b, b' '..=b'~') & (b != b'"') & (b != b'\\')) {
        out.push_str(text);
        out.push('"');
        return;
    }
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if is_unsafe(c) => push_json_escape(c, out),
            c => out.push(c),
        }
    }
    out.push('"');
}

/// A line of JSON with the unsafe characters that stand in it as themselves escaped. What Keyhatch wrote holds none and comes back as it is.
#[must_use]
pub fn json_line(line: &str) -> Cow<'_, str> {
    if !line.contains(is_unsafe) {
        return Cow::Borrowed(line);
    }
    let mut out = String::with_capacity(line.len() + 16);
    for c in line.chars() {
        match c {
            // Raw, these stand between tokens only, where an escape would be no JSON.
            '\t' | '\r' | '\n' => out.push(' '),
            c if is_unsafe(c) => push_json_escape(c, &mut out),
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// A string for a person to read: unsafe characters as `\u{XX}`, a backslash doubled so that no escape can be feigned.
#[must_use]
pub fn human(text: &str) -> Cow<'_, str> {
    if !text.contains(|c| c == '\\' || is_unsafe(c)) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            c if is_unsafe(c) => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// The longest prefix of at most `max` bytes that ends at a character's boundary.
#[must_use]
pub fn cut(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = "a\n\r\t\u{1b}[2J\u{7f}\u{9b}\u{202e}\u{2066}\u{200b}\u{e0041}\u{2028}\"\\ü";

    #[test]
    fn json_is_escaped_and_reads_back() {
        let mut out = String::new();
        push_json_string(HOSTILE, &mut out);
        assert!(!out.contains(is_unsafe), "{out}");
        assert!(out.contains("\\u001b") && out.contains("\\u202e") && out.contains("\\udb40\\udc41"), "{out}");
        assert_eq!(serde_json::from_str::<String>(&out).expect("JSON"), HOSTILE);
    }

    #[test]
    fn a_tampered_line_is_made_harmless_and_a_good_one_is_left() {
        assert!(matches!(json_line(r#"{"a":"b"}"#), Cow::Borrowed(_)));
        assert_eq!(json_line("{\"a\"\t:\r1}"), "{\"a\" : 1}");
        let line = json_line("{\"a\":\"\u{202e}\u{9b}\"}");
        assert_eq!(line, r#"{"a":"\u202e\u009b"}"#);
    }

    #[test]
    fn a_person_sees_escapes() {
        assert_eq!(human("plain"), "plain");
        assert_eq!(human("a\u{1b}b\\u{1b}\n"), "a\\u{1b}b\\\\u{1b}\\u{a}");
        assert!(!human(HOSTILE).contains(is_unsafe));
    }

    #[test]
    fn a_cut_keeps_characters_whole() {
        assert_eq!(cut("aü", 2), "a");
        assert_eq!(cut("aü", 3), "aü");
        assert_eq!(cut("", 3), "");
    }
}
