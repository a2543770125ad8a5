//! What went wrong in a handshake, in words for the operator.

use std::io;

use jiff::Timestamp;
use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertRevocationListError, CertificateError, Error, InvalidMessage, PeerIncompatible, PeerMisbehaved};

/// How much of a stranger's certificate is repeated.
const NAMES_SHOWN: usize = 3;
const NAME_LENGTH: usize = 100;

/// The TLS error inside an IO error, as tokio-rustls hands it out.
#[must_use]
pub fn tls_error(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

/// [`describe_tls_error`] for an IO error from a handshake with an origin; what is no TLS error says what it is.
#[must_use]
pub fn describe_io_error(error: &io::Error) -> String {
    match (tls_error(error), error.kind()) {
        (Some(error), _) => describe_tls_error(error),
        (None, io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) => {
            "the origin closed the connection during the TLS handshake".to_owned()
        }
        (None, _) => format!("the connection failed during the TLS handshake: {error}"),
    }
}

/// Why the handshake with an origin failed. No line breaks, and what the origin itself chose is cut and escaped.
#[must_use]
pub fn describe_tls_error(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(error) => certificate(error),
        Error::AlertReceived(alert) => format!("the origin refused the handshake with the alert {}", alert_name(*alert)),
        Error::InvalidMessage(InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion) => {
            "the origin does not speak TLS on this port".to_owned()
        }
        Error::NoCertificatesPresented => "the origin presented no certificate".to_owned(),
        Error::NoApplicationProtocol => "the origin speaks no protocol that was offered".to_owned(),
        Error::PeerIncompatible(what) => incompatible(what),
        Error::PeerMisbehaved(what) => misbehaved(what),
        Error::InvalidCertRevocationList(error) => describe_crl_error(error),
        other => escape(&other.to_string(), 300),
    }
}

/// Why the handshake with an agent failed, with the mend where the agent does not trust the CA.
#[must_use]
pub fn describe_agent_tls_error(error: &Error) -> String {
    use AlertDescription as Alert;
    match error {
        Error::AlertReceived(alert @ (Alert::UnknownCA | Alert::BadCertificate | Alert::CertificateUnknown)) => format!(
            "the agent does not trust the CA of keyhatch (alert {}); give it ca.pem, as `keyhatch run` and `keyhatch env` do",
            alert_name(*alert)
        ),
        Error::AlertReceived(alert) => format!("the agent ended the handshake with the alert {}", alert_name(*alert)),
        Error::NoApplicationProtocol => "the agent offers no protocol but others than HTTP/1.1".to_owned(),
        Error::PeerIncompatible(what) => format!("the agent's TLS does not fit: {what:?}"),
        other => escape(&other.to_string(), 300),
    }
}

/// Why a revocation list is not taken.
pub(super) fn describe_crl_error(error: &CertRevocationListError) -> String {
    escape(&format!("the revocation list cannot be used: {error:?}"), 300)
}

fn certificate(error: &CertificateError) -> String {
    use CertificateError as E;
    match error {
        E::Expired => "the origin's certificate has expired".to_owned(),
        E::ExpiredContext { not_after, .. } => format!("the origin's certificate expired at {}", time(*not_after)),
        E::NotValidYet => "the origin's certificate is not valid yet; is the clock right?".to_owned(),
        E::NotValidYetContext { not_before, .. } => {
            format!("the origin's certificate is not valid before {}; is the clock right?", time(*not_before))
        }
        E::Revoked => "the origin's certificate, or one above it, has been revoked".to_owned(),
        E::UnknownIssuer => "the origin's certificate comes from a CA that is not trusted; if it is a private one, add it to extra_ca_files in \
                             [upstream]; else the origin may leave out its intermediate certificate"
            .to_owned(),
        E::NotValidForName => "the origin's certificate is for another host".to_owned(),
        E::NotValidForNameContext { expected, presented } => {
            format!("the origin's certificate is not for {} but for {}", expected.to_str(), names(presented))
        }
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => "the origin's certificate is not one for servers".to_owned(),
        E::BadSignature => {
            "a signature on the origin's certificate, or one by its key, is wrong, or a key is too weak (RSA under 2048 bits)".to_owned()
        }
        E::BadEncoding => "the origin's certificate is malformed".to_owned(),
        E::UnhandledCriticalExtension => "the origin's certificate has a critical extension that is not understood".to_owned(),
        E::UnknownRevocationStatus => "whether the origin's certificate has been revoked is not known".to_owned(),
        E::ExpiredRevocationList | E::ExpiredRevocationListContext { .. } => {
            "the revocation list for the origin's certificate has expired".to_owned()
        }
        E::UnsupportedSignatureAlgorithmContext { .. } | E::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "the origin's certificate is signed in a way that is not supported".to_owned()
        }
        E::Other(error) => chain_fault(&error.to_string()),
        other => escape(&format!("the origin's certificate is not accepted: {other:?}"), 300),
    }
}

/// What webpki says of a chain, by its own names.
fn chain_fault(name: &str) -> String {
    match name {
        "NameConstraintViolation" => "a CA above the origin's certificate may not vouch for the name of the origin".to_owned(),
        "CaUsedAsEndEntity" => "the origin's certificate is that of a CA".to_owned(),
        "EndEntityUsedAsCa" => "the origin's certificate is signed by one that is no CA's".to_owned(),
        "PathLenConstraintViolated" => "a CA above the origin's certificate allows fewer CAs below it than there are".to_owned(),
        "UnsupportedCriticalExtension" => certificate(&CertificateError::UnhandledCriticalExtension),
        other => escape(&format!("the origin's certificate is not accepted: {other}"), 300),
    }
}

fn misbehaved(what: &PeerMisbehaved) -> String {
    match what {
        PeerMisbehaved::AttemptedDowngradeToTls12WhenTls13IsSupported => {
            "the origin speaks TLS 1.3, but somebody on the way holds the connection down to 1.2".to_owned()
        }
        PeerMisbehaved::SelectedUnofferedCipherSuite => {
            "the origin chose a cipher suite that was not offered: none without forward secrecy and authenticated encryption is".to_owned()
        }
        other => format!("the origin broke the rules of TLS: {other:?}"),
    }
}

fn incompatible(what: &PeerIncompatible) -> String {
    match what {
        PeerIncompatible::ServerDoesNotSupportTls12Or13 | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig => {
            "the origin speaks only versions of TLS older than 1.2".to_owned()
        }
        other => format!("the origin's TLS does not fit: {other:?}"),
    }
}

/// `unknown_ca` rather than `UnknownCA`: as RFC 8446 6 and other programs write it.
fn alert_name(alert: AlertDescription) -> String {
    let name = format!("{alert:?}");
    let mut out = String::new();
    let mut before = '_';
    for c in name.chars() {
        if c.is_ascii_uppercase() && !before.is_ascii_uppercase() && before != '_' {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
        before = c;
    }
    out
}

fn time(at: UnixTime) -> String {
    i64::try_from(at.as_secs()).ok().and_then(|s| Timestamp::from_second(s).ok()).map_or_else(|| "an absurd time".to_owned(), |t| t.to_string())
}

/// `a.example, b.example and 7 more`.
fn names(presented: &[String]) -> String {
    if presented.is_empty() {
        return "no name at all".to_owned();
    }
    // rustls writes `DnsName("a.example")`.
    let bare = |name: &String| {
        let name = name.split_once('(').map_or(name.as_str(), |(_, rest)| rest.trim_end_matches(')')).trim_matches('"');
        escape(name, NAME_LENGTH)
    };
    let shown = presented.iter().take(NAMES_SHOWN).map(bare).collect::<Vec<_>>().join(", ");
    match presented.len().saturating_sub(NAMES_SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// Printable ASCII of at most `max` characters; the rest as `?`.
fn escape(text: &str, max: usize) -> String {
    text.chars().take(max).map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::ServerName;
    use std::time::Duration;

    #[test]
    fn the_usual_faults() {
        let at = UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_000));
        let cert = |e| describe_tls_error(&Error::InvalidCertificate(e));
        assert_eq!(cert(CertificateError::ExpiredContext { time: at, not_after: at }), "the origin's certificate expired at 2027-01-15T08:00:00Z");
        let name = CertificateError::NotValidForNameContext {
            expected: ServerName::try_from("a.example").expect("a name"),
            presented: ["DnsName(\"b.example\")", "DnsName(\"c\u{202e}\n\")", "IpAddress(127.0.0.1)", "DnsName(\"d\")"].map(str::to_owned).into(),
        };
        assert_eq!(cert(name), "the origin's certificate is not for a.example but for b.example, c??, 127.0.0.1 and 1 more");
        assert!(cert(CertificateError::UnknownIssuer).contains("extra_ca_files"));
        assert!(cert(CertificateError::Revoked).contains("revoked"));
        let alert = describe_tls_error(&Error::AlertReceived(AlertDescription::HandshakeFailure));
        assert_eq!(alert, "the origin refused the handshake with the alert handshake_failure");
    }

    #[test]
    fn an_agent_without_the_ca() {
        let text = describe_agent_tls_error(&Error::AlertReceived(AlertDescription::UnknownCA));
        assert!(text.contains("unknown_ca") && text.contains("ca.pem"), "{text}");
        assert_eq!(alert_name(AlertDescription::UnknownCA), "unknown_ca");
        assert_eq!(alert_name(AlertDescription::NoApplicationProtocol), "no_application_protocol");
    }

    #[test]
    fn io_errors() {
        let inner = io::Error::new(io::ErrorKind::InvalidData, Error::InvalidCertificate(CertificateError::Expired));
        assert_eq!(describe_io_error(&inner), "the origin's certificate has expired");
        let eof = io::Error::from(io::ErrorKind::UnexpectedEof);
        assert_eq!(describe_io_error(&eof), "the origin closed the connection during the TLS handshake");
    }
}
