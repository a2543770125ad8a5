//! Records as lines of the file: how they are written and how a line is read back.

use std::borrow::Cow;
use std::fmt::Write as _;

use jiff::Timestamp;

use super::chain::{AuditKey, ChainMac, Checkpoint};
use super::write::{address, hex, milliseconds, number};
use crate::audit::{AuditEvent, ChangeRecord, RequestRecord};
use crate::telemetry::escape::{cut, push_json_string};

/// Strings are cut at this many bytes.
pub(super) const STRING_MAX: usize = 1024;
/// No record is longer: six strings whose every byte became `\uXXXX` are 38 KiB. A longer line is none of ours.
pub(super) const LINE_MAX: usize = 64 * 1024;

/// `,"mac":"` 64 digits `"}`.
const MAC_OPEN: &[u8] = b",\"mac\":\"";
const MAC_CLOSE: &[u8] = b"\"}";
const MAC_MEMBER: usize = MAC_OPEN.len() + 64 + MAC_CLOSE.len();

/// The first record of the first file.
pub(super) const START: &str = "audit.start";
/// The first record of each later file.
pub(super) const CONTINUE: &str = "audit.continue";
/// Written where records that had been written are found gone.
pub(super) const GAP: &str = "audit.gap";
/// How many records could not be written.
pub(super) const LOST: &str = "audit.lost";

/// What the log writes: what it was handed, or something of its own.
pub(super) enum Entry {
    /// Handed over.
    Event(AuditEvent),
    /// So many records were lost before this one.
    Lost(u64),
}

/// A record of the log itself.
pub(super) struct OwnRecord {
    pub(super) event: &'static str,
    pub(super) detail: String,
    /// For a file's first record: the last record of the file before.
    pub(super) previous: Option<Checkpoint>,
    pub(super) count: Option<u64>,
}

impl Entry {
    /// Appends the record's line to `out`; returns its MAC.
    pub(super) fn write(&self, key: &AuditKey, seq: u64, previous: &ChainMac, out: &mut String) -> ChainMac {
        let start = out.len();
        match self {
            Self::Event(AuditEvent::Request(r)) => request(r, seq, out),
            Self::Event(AuditEvent::Change(c)) => change(c, seq, out),
            Self::Lost(n) => {
                let own = OwnRecord { event: LOST, detail: format!("{n} records could not be written"), previous: None, count: Some(*n) };
                return own.write(key, seq, previous, out);
            }
        }
        seal(key, previous, start, out)
    }
}

impl OwnRecord {
    /// Appends the record's line to `out`; returns its MAC.
    pub(super) fn write(&self, key: &AuditKey, seq: u64, previous: &ChainMac, out: &mut String) -> ChainMac {
        let start = out.len();
        let at = crate::clock::now();
        change(&ChangeRecord { at, event: self.event, agent: None, credential: None, detail: self.detail.clone() }, seq, out);
        // Writing to a `String` cannot fail, here and below.
        if let Some(n) = self.count {
            let _ = write!(out, ",\"count\":{n}");
        }
        if let Some(p) = &self.previous {
            let _ = write!(out, ",\"prev_seq\":{},\"prev_mac\":\"{}\"", p.seq, p.mac);
        }
        seal(key, previous, start, out)
    }
}

/// Ends the record that begins at `start` with its MAC.
fn seal(key: &AuditKey, previous: &ChainMac, start: usize, out: &mut String) -> ChainMac {
    let mac = key.link(previous, &[&out.as_bytes()[start..], b"}"]);
    out.push_str(",\"mac\":\"");
    hex(&mac.0, out);
    out.push_str("\"}\n");
    mac
}

fn request(r: &RequestRecord, seq: u64, out: &mut String) {
    head(seq, r.at, out);
    out.push_str(",\"id\":\"");
    hex(&r.id.0.to_be_bytes(), out);
    out.push('"');
    optional("agent", r.agent.as_deref(), out);
    string("method", &r.method, out);
    string("host", &r.host, out);
    member("port", r.port.into(), out);
    string("path", &r.path, out);
    member("status", r.status.into(), out);
    string("decision", r.verdict.as_str(), out);
    optional("credential", r.credential.as_deref(), out);
    string("reason", &r.reason, out);
    match r.upstream_addr {
        Some(addr) => {
            out.push_str(",\"upstream_addr\":\"");
            address(addr, out);
            out.push('"');
        }
        None => out.push_str(",\"upstream_addr\":null"),
    }
    member("bytes_up", r.bytes_up, out);
    member("bytes_down", r.bytes_down, out);
    name("ttfb_ms", out);
    match r.ttfb {
        Some(t) => milliseconds(t, out),
        None => out.push_str("null"),
    }
    name("duration_ms", out);
    milliseconds(r.duration, out);
    optional("client_protocol", Some(r.client_protocol).filter(|p| !p.is_empty()), out);
    optional("upstream_protocol", Some(r.upstream_protocol).filter(|p| !p.is_empty()), out);
}

fn change(c: &ChangeRecord, seq: u64, out: &mut String) {
    head(seq, c.at, out);
    string("event", c.event, out);
    optional("agent", c.agent.as_deref(), out);
    optional("credential", c.credential.as_deref(), out);
    string("detail", &c.detail, out);
}

fn head(seq: u64, at: Timestamp, out: &mut String) {
    out.push_str("{\"seq\":");
    number(seq, out);
    let _ = write!(out, ",\"ts\":\"{at:.6}\"");
}

fn name(name: &'static str, out: &mut String) {
    out.push_str(",\"");
    out.push_str(name);
    out.push_str("\":");
}

fn member(of: &'static str, value: u64, out: &mut String) {
    name(of, out);
    number(value, out);
}

fn string(of: &'static str, value: &str, out: &mut String) {
    name(of, out);
    push_json_string(cut(value, STRING_MAX), out);
}

fn optional(of: &'static str, value: Option<&str>, out: &mut String) {
    match value {
        Some(value) => string(of, value, out),
        None => {
            name(of, out);
            out.push_str("null");
        }
    }
}

/// Cuts an event's strings, so that a full queue of them stays small whatever an agent sends.
pub(super) fn trim(event: &mut AuditEvent) {
    fn shorten<T: AsRef<str> + for<'a> From<&'a str>>(text: &mut T) {
        if text.as_ref().len() > STRING_MAX {
            *text = cut(text.as_ref(), STRING_MAX).into();
        }
    }
    match event {
        AuditEvent::Request(r) => {
            [&mut r.method, &mut r.host, &mut r.path, &mut r.reason].into_iter().for_each(shorten);
            [&mut r.agent, &mut r.credential].into_iter().flatten().for_each(shorten);
        }
        AuditEvent::Change(c) => {
            shorten(&mut c.detail);
            [&mut c.agent, &mut c.credential].into_iter().flatten().for_each(shorten);
        }
    }
}

/// A line that has the form of a record. Whether it is genuine, only the chain can tell.
pub(super) struct Line<'a> {
    pub(super) seq: u64,
    pub(super) mac: ChainMac,
    /// The event of a record that is not about a request.
    pub(super) event: Option<Cow<'a, str>>,
    /// For a file's first record: the last record of the file before.
    pub(super) previous: Option<Checkpoint>,
    /// For `audit.lost`: how many.
    pub(super) count: u64,
    /// For a record of the log itself: more in words.
    pub(super) detail: Option<Cow<'a, str>>,
    /// The record's bytes before the `mac` member.
    body: &'a [u8],
}

#[derive(serde::Deserialize)]
struct Members<'a> {
    seq: u64,
    #[serde(borrow, default)]
    event: Option<Cow<'a, str>>,
    #[serde(default)]
    count: u64,
    #[serde(borrow, default)]
    detail: Option<Cow<'a, str>>,
    prev_seq: Option<u64>,
    #[serde(borrow, default)]
    prev_mac: Option<Cow<'a, str>>,
}

impl<'a> Line<'a> {
    /// Reads a line, without its line feed. `None` where it has not the form of a record.
    pub(super) fn parse(line: &'a [u8]) -> Option<Self> {
        let (body, member) = line.split_at_checked(line.len().checked_sub(MAC_MEMBER)?)?;
        let mac = ChainMac::from_hex(member.strip_prefix(MAC_OPEN)?.strip_suffix(MAC_CLOSE)?)?;
        let m: Members<'a> = serde_json::from_slice(line).ok()?;
        let previous = match (m.prev_seq, m.prev_mac) {
            (Some(seq), Some(mac)) => Some(Checkpoint { seq, mac: ChainMac::from_hex(mac.as_bytes())? }),
            (None, None) => None,
            _ => return None,
        };
        Some(Self { seq: m.seq, mac, event: m.event, previous, count: m.count, detail: m.detail, body })
    }

    /// Whether the record, as it stands, follows the one that has this MAC.
    pub(super) fn follows(&self, previous: &ChainMac, key: &AuditKey) -> bool {
        key.link(previous, &[self.body, b"}"]) == self.mac
    }

    /// Its place in the chain, as it says itself.
    pub(super) fn place(&self) -> Checkpoint {
        Checkpoint { seq: self.seq, mac: self.mac }
    }

    /// Whether it can be the first record of a file.
    pub(super) fn opens_a_file(&self) -> bool {
        match self.event.as_deref() {
            Some(START) => self.seq == 1,
            Some(CONTINUE | GAP) => self.previous.is_some(),
            _ => false,
        }
    }

    /// What a file's first record says it follows.
    pub(super) fn said_previous(&self) -> Checkpoint {
        self.previous.unwrap_or(Checkpoint::GENESIS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use crate::audit::{RequestId, Verdict};
    use zeroize::Zeroizing;

    fn key() -> AuditKey {
        AuditKey::new(Zeroizing::new([3; 32]))
    }

    fn sample(path: &str) -> RequestRecord {
        RequestRecord {
            at: "2026-11-21T05:00:00.5Z".parse().expect("a time"),
            id: RequestId(0xabc),
            agent: Some("default".into()),
            method: "POST".into(),
            host: "openrouter.ai".into(),
            port: 443,
            path: path.into(),
            status: 200,
            verdict: Verdict::Injected,
            credential: Some("openrouter".into()),
            reason: "ok".into(),
            upstream_addr: Some("[2001:db8::1]:443".parse().expect("an address")),
            bytes_up: 10,
            bytes_down: 20,
            ttfb: Some(Duration::from_micros(12_034)),
            duration: Duration::from_millis(2000),
            client_protocol: "HTTP/1.1",
            upstream_protocol: "HTTP/2",
        }
    }

    fn line(entry: &Entry) -> String {
        let mut out = String::new();
        entry.write(&key(), 5, &ChainMac::GENESIS, &mut out);
        out
    }

    #[test]
    fn a_request_has_its_fields_in_order() {
        let text = line(&Entry::Event(AuditEvent::Request(Box::new(sample("/api/v1/chat")))));
        let (body, mac) = text.split_at(text.find(",\"mac\"").expect("a MAC"));
        assert_eq!(
            body,
            "{\"seq\":5,\"ts\":\"2026-11-21T05:00:00.500000Z\",\"id\":\"0000000000000abc\",\"agent\":\"default\",\"method\":\"POST\",\
             \"host\":\"openrouter.ai\",\"port\":443,\"path\":\"/api/v1/chat\",\"status\":200,\"decision\":\"injected\",\"credential\":\"openrouter\",\
             \"reason\":\"ok\",\"upstream_addr\":\"[2001:db8::1]:443\",\"bytes_up\":10,\"bytes_down\":20,\"ttfb_ms\":12.034,\"duration_ms\":2000.000,\
             \"client_protocol\":\"HTTP/1.1\",\"upstream_protocol\":\"HTTP/2\""
        );
        assert_eq!(mac.len(), MAC_MEMBER + 1);
    }

    #[test]
    fn what_was_not_there_is_null() {
        let bare = RequestRecord { agent: None, credential: None, upstream_addr: None, ttfb: None, upstream_protocol: "", ..sample("") };
        let text = line(&Entry::Event(AuditEvent::Request(Box::new(bare))));
        let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        for name in ["agent", "credential", "upstream_addr", "ttfb_ms", "upstream_protocol"] {
            assert!(value[name].is_null(), "{name}");
        }
    }

    #[test]
    fn a_change_has_its_fields_in_order() {
        let change = ChangeRecord {
            at: "2026-11-21T05:00:00Z".parse().expect("a time"),
            event: "credential.add",
            agent: None,
            credential: Some("openrouter".into()),
            detail: "a \"b\"".into(),
        };
        let text = line(&Entry::Event(AuditEvent::Change(Box::new(change))));
        assert!(
            text.starts_with(
                r#"{"seq":5,"ts":"2026-11-21T05:00:00.000000Z","event":"credential.add","agent":null,"credential":"openrouter","detail":"a \"b\"","mac":""#
            ),
            "{text}"
        );
    }

    #[test]
    fn a_forged_string_stays_in_its_line() {
        let hostile = "/\n{\"seq\":6}\u{1b}[2K\r\u{202e}\u{2028}\u{9b}".to_owned() + &"\u{1}".repeat(2000);
        let mut event = AuditEvent::Request(Box::new(sample(&hostile)));
        let untrimmed = line(&Entry::Event(event.clone()));
        trim(&mut event);
        let text = line(&Entry::Event(event));
        assert_eq!(text, untrimmed, "cut in the queue or in the file, it is the same");
        assert_eq!(text.matches('\n').count(), 1);
        assert!(!text.trim_end_matches('\n').contains(crate::telemetry::escape::is_unsafe));
        assert!(text.len() < LINE_MAX);
        let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(value["path"].as_str().expect("a path"), cut(&hostile, STRING_MAX));
    }

    #[test]
    fn a_line_reads_back() {
        let text = line(&Entry::Lost(9));
        let parsed = Line::parse(text.trim_end().as_bytes()).expect("a record");
        assert_eq!((parsed.seq, parsed.event.as_deref(), parsed.count), (5, Some(LOST), 9));
        assert!(parsed.follows(&ChainMac::GENESIS, &key()));
        assert!(!parsed.follows(&ChainMac([1; 32]), &key()));
        let changed = text.replace("9 records", "8 records");
        assert!(!Line::parse(changed.trim_end().as_bytes()).expect("a record").follows(&ChainMac::GENESIS, &key()));
    }

    #[test]
    fn what_is_no_record_is_none() {
        let text = line(&Entry::Lost(9));
        let text = text.trim_end();
        for end in 0..text.len() {
            assert!(Line::parse(&text.as_bytes()[..end]).is_none(), "torn at {end}");
        }
        let twice = text.replacen("{\"seq\":5", "{\"seq\":5,\"seq\":6", 1);
        for bad in
            ["", "\n", "{}", "null", &twice, &text.replace("\"seq\":5", "\"seq\":-5"), &text.replace("\"seq\":5", "\"seq\":99999999999999999999")]
        {
            assert!(Line::parse(bad.as_bytes()).is_none(), "{bad}");
        }
        assert!(Line::parse(&[0xff; 200]).is_none());
    }
}
