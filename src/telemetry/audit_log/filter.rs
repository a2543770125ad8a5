//! Which records `audit tail` shows.

use jiff::{SignedDuration, Timestamp};

use super::shown::Shown;
use crate::audit::Verdict;
use crate::host::Host;
use crate::telemetry::escape::human;

/// Why an option's value is no filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// `--host`
    #[error("`{0}` is no host: give a name, an address, or `*.` and a name")]
    Host(String),
    /// `--status`
    #[error("`{0}` is no status: give a number (`403`), a class (`4xx`) or a decision (`injected`, `tunnelled`, `forwarded`, `denied`, `failed`)")]
    Status(String),
    /// `--since`
    #[error("`{0}` is no time: give a date, an RFC 3339 time (`2026-11-21T05:00:00Z`), or how long ago (`90s`, `10m`, `2h`, `1d`)")]
    Since(String),
}

/// All that is set must match.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// The agent's name.
    pub agent: Option<String>,
    /// The host of a request.
    pub host: Option<HostFilter>,
    /// Records from this time on.
    pub since: Option<Timestamp>,
    /// The status or decision of a request.
    pub status: Option<StatusFilter>,
}

/// A host, or every name below one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFilter {
    name: String,
    below: bool,
}

impl HostFilter {
    /// Reads a host in any spelling, or `*.` and a name: that name and every one below it, as in an allowed domain.
    ///
    /// # Errors
    /// [`FilterError::Host`].
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        let (name, below) = text.strip_prefix("*.").map_or((text, false), |rest| (rest, true));
        let host = Host::parse(name).map_err(|_| FilterError::Host(human(text).into_owned()))?;
        Ok(Self { name: host.to_string(), below })
    }

    fn matches(&self, host: &str) -> bool {
        // A record has the host in normal form, where it has one.
        let rest = host.strip_suffix(&self.name);
        rest.is_some_and(|rest| rest.is_empty() || (self.below && rest.ends_with('.')))
    }
}

/// A status, a class of them, or a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusFilter {
    /// This status.
    Exact(u16),
    /// Statuses that begin with this digit.
    Class(u16),
    /// This decision, whatever the status.
    Decision(Verdict),
}

impl StatusFilter {
    /// Reads `403`, `4xx` or `denied`.
    ///
    /// # Errors
    /// [`FilterError::Status`].
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        let wrong = || FilterError::Status(human(text).into_owned());
        if let Some(verdict) =
            [Verdict::Injected, Verdict::Tunnelled, Verdict::Forwarded, Verdict::Denied, Verdict::Failed].into_iter().find(|v| v.as_str() == text)
        {
            return Ok(Self::Decision(verdict));
        }
        match text.to_ascii_lowercase().strip_suffix("xx") {
            Some(class) => class.parse().ok().filter(|c| (1..=5).contains(c)).map(Self::Class),
            None => text.parse().ok().filter(|s| *s == 0 || (100..=999).contains(s)).map(Self::Exact),
        }
        .ok_or_else(wrong)
    }

    fn matches(self, status: Option<u16>, decision: Option<&str>) -> bool {
        match self {
            Self::Exact(n) => status == Some(n),
            Self::Class(c) => status.is_some_and(|s| s / 100 == c),
            Self::Decision(v) => decision == Some(v.as_str()),
        }
    }
}

/// Reads `--since`: a date (its beginning, UTC), an RFC 3339 time, or a time span before `now`.
///
/// # Errors
/// [`FilterError::Since`].
pub fn parse_since(text: &str, now: Timestamp) -> Result<Timestamp, FilterError> {
    let span = || {
        let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            "d" => 86_400,
            "w" => 604_800,
            _ => return None,
        };
        let n = if digits.bytes().all(|b| b.is_ascii_digit()) { digits.parse::<i64>().ok()? } else { return None };
        now.checked_sub(SignedDuration::from_secs(n.checked_mul(seconds)?)).ok()
    };
    let date = || text.parse::<jiff::civil::Date>().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|z| z.timestamp());
    span().or_else(|| text.parse().ok()).or_else(date).ok_or_else(|| FilterError::Since(human(text).into_owned()))
}

impl Filter {
    /// Whether a record is to be shown.
    #[must_use]
    pub fn matches(&self, record: &Shown<'_>) -> bool {
        let r = &record.fields;
        self.agent.as_deref().is_none_or(|a| r.agent.as_deref() == Some(a))
            && self.host.as_ref().is_none_or(|h| r.host.as_deref().is_some_and(|host| h.matches(host)))
            && self.since.is_none_or(|since| r.ts.is_some_and(|ts| ts >= since))
            && self.status.is_none_or(|s| s.matches(r.status, r.decision.as_deref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        let exact = HostFilter::parse("OpenRouter.ai.").expect("a host");
        assert!(exact.matches("openrouter.ai") && !exact.matches("api.openrouter.ai"));
        let below = HostFilter::parse("*.openrouter.ai").expect("a pattern");
        assert!(below.matches("openrouter.ai") && below.matches("a.b.openrouter.ai") && !below.matches("evilopenrouter.ai"));
        assert!(HostFilter::parse("[::1]").expect("an address").matches("[::1]"));
        assert!(HostFilter::parse("a b").is_err());
    }

    #[test]
    fn statuses() {
        assert_eq!(StatusFilter::parse("403"), Ok(StatusFilter::Exact(403)));
        assert_eq!(StatusFilter::parse("4xx"), Ok(StatusFilter::Class(4)));
        assert_eq!(StatusFilter::parse("5XX"), Ok(StatusFilter::Class(5)));
        assert_eq!(StatusFilter::parse("denied"), Ok(StatusFilter::Decision(Verdict::Denied)));
        for bad in ["", "xx", "9xx", "40", "ok", "-1", "70000"] {
            assert!(StatusFilter::parse(bad).is_err(), "{bad}");
        }
        assert!(StatusFilter::Class(4).matches(Some(407), None) && !StatusFilter::Class(4).matches(Some(500), None));
        assert!(!StatusFilter::Exact(403).matches(None, None));
    }

    #[test]
    fn times() {
        let now: Timestamp = "2026-11-21T12:00:00Z".parse().expect("a time");
        let since = |text| parse_since(text, now).map(|t| t.to_string());
        assert_eq!(since("90s").as_deref(), Ok("2026-11-21T11:58:30Z"));
        assert_eq!(since("1d").as_deref(), Ok("2026-11-20T12:00:00Z"));
        assert_eq!(since("2026-11-21").as_deref(), Ok("2026-11-21T00:00:00Z"));
        assert_eq!(since("2026-11-21T01:00:00+01:00").as_deref(), Ok("2026-11-21T00:00:00Z"));
        for bad in ["", "s", "-1h", "1y", "yesterday", "99999999999999999999w", "9999999999999d", "ü"] {
            assert!(since(bad).is_err(), "{bad}");
        }
    }
}
