//! A record as it is shown to a person or handed to a program.

use std::borrow::Cow;
use std::fmt::{self, Display, Write as _};

use jiff::Timestamp;

use crate::telemetry::escape::{human, json_line};

/// One record of the file.
pub struct Shown<'a> {
    line: &'a str,
    pub(super) fields: Fields<'a>,
}

/// What is shown of a record. All may be absent: requests and changes have different members, and the file may have been tampered with.
#[derive(serde::Deserialize, Default)]
#[serde(default)]
pub(super) struct Fields<'a> {
    pub(super) ts: Option<Timestamp>,
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    event: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) agent: Option<Cow<'a, str>>,
    #[serde(borrow)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) host: Option<Cow<'a, str>>,
    port: Option<u16>,
    #[serde(borrow)]
    path: Option<Cow<'a, str>>,
    pub(super) status: Option<u16>,
    #[serde(borrow)]
    pub(super) decision: Option<Cow<'a, str>>,
    #[serde(borrow)]
    credential: Option<Cow<'a, str>>,
    #[serde(borrow)]
    reason: Option<Cow<'a, str>>,
    bytes_up: Option<u64>,
    bytes_down: Option<u64>,
    duration_ms: Option<f64>,
    #[serde(borrow)]
    detail: Option<Cow<'a, str>>,
}

impl<'a> Shown<'a> {
    /// Reads a line of the file, without its line feed. `None` where it is no object with members of the right types.
    #[must_use]
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        let line = std::str::from_utf8(line).ok()?;
        let fields = line.starts_with('{').then(|| serde_json::from_str(line).ok())??;
        Some(Self { line, fields })
    }

    /// The line as it stands in the file; what could harm a terminal, if someone put it there, is escaped.
    #[must_use]
    pub fn json(&self) -> Cow<'a, str> {
        json_line(self.line)
    }
}

/// A string of the file, or `-`.
fn text<'b>(value: Option<&'b Cow<'_, str>>) -> Cow<'b, str> {
    value.filter(|v| !v.is_empty()).map_or(Cow::Borrowed("-"), |v| human(v))
}

impl Display for Shown<'_> {
    /// One line for a person: time, agent, what was asked, what came of it; or time, event and what it was about.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let r = &self.fields;
        match r.ts {
            Some(ts) => write!(f, "{ts:.3}")?,
            None => f.write_char('-')?,
        }
        if let Some(event) = &r.event {
            write!(f, "  {}", human(event))?;
            for (name, value) in [("agent", &r.agent), ("credential", &r.credential)] {
                if value.is_some() {
                    write!(f, "  {name} {}", text(value.as_ref()))?;
                }
            }
            return match r.detail.as_deref() {
                Some(detail) if !detail.is_empty() => write!(f, "  {}", human(detail)),
                _ => Ok(()),
            };
        }
        write!(f, "  {}  {} {}", text(r.agent.as_ref()), text(r.method.as_ref()), text(r.host.as_ref()))?;
        if let Some(port) = r.port.filter(|p| *p != 0) {
            write!(f, ":{port}")?;
        }
        write!(f, "{}", human(r.path.as_deref().unwrap_or_default()))?;
        match r.status {
            Some(status) if status != 0 => write!(f, "  {status}")?,
            _ => f.write_str("  -")?,
        }
        write!(f, " {}", text(r.decision.as_ref()))?;
        if r.credential.is_some() {
            write!(f, " {}", text(r.credential.as_ref()))?;
        }
        if let Some(reason) = r.reason.as_deref().filter(|r| !r.is_empty() && *r != "ok") {
            write!(f, " ({})", human(reason))?;
        }
        write!(f, "  {:.0} ms  {} B up, {} B down", r.duration_ms.unwrap_or(0.0), r.bytes_up.unwrap_or(0), r.bytes_down.unwrap_or(0))?;
        write!(f, "  id {}", text(r.id.as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::escape::is_unsafe;

    #[test]
    fn a_request_and_a_change_for_a_person() {
        let request = r#"{"seq":5,"ts":"2026-11-21T05:00:00.500000Z","id":"0abc","agent":"default","method":"POST","host":"openrouter.ai","port":443,"path":"/api/v1/chat","status":200,"decision":"injected","credential":"openrouter","reason":"ok","bytes_up":1,"bytes_down":2,"duration_ms":12.034}"#;
        let shown = Shown::parse(request.as_bytes()).expect("a record");
        assert_eq!(
            shown.to_string(),
            "2026-11-21T05:00:00.500Z  default  POST openrouter.ai:443/api/v1/chat  200 injected openrouter  12 ms  1 B up, 2 B down  id 0abc"
        );
        assert_eq!(shown.json(), request);
        let change = r#"{"ts":"2026-11-21T05:00:00Z","event":"credential.add","agent":null,"credential":"openrouter","detail":"openrouter.ai"}"#;
        assert_eq!(
            Shown::parse(change.as_bytes()).expect("a record").to_string(),
            "2026-11-21T05:00:00.000Z  credential.add  credential openrouter  openrouter.ai"
        );
    }

    #[test]
    fn nothing_hostile_reaches_the_terminal() {
        let line = "{\"agent\":\"a\\u001b[2J\\n\",\"method\":\"\u{202e}\",\"host\":\"\\\\u{1b}\",\"path\":\"/\u{9b}\",\"reason\":\"\\r\",\"id\":\"\u{2066}\"}";
        let shown = Shown::parse(line.as_bytes()).expect("a record");
        assert!(!shown.to_string().contains(is_unsafe), "{shown}");
        assert!(!shown.json().contains(is_unsafe));
    }

    #[test]
    fn what_is_no_record_is_none() {
        for bad in [&b""[..], b"null", b"[]", b"{", b"{\"status\":\"x\"}", b"{\"ts\":5}", &[0xff], b"{\"port\":70000}"] {
            assert!(Shown::parse(bad).is_none(), "{bad:?}");
        }
        let nested = "[".repeat(100_000);
        assert!(Shown::parse(format!("{{\"x\":{nested}").as_bytes()).is_none());
    }
}
