//! What is said over `admin.sock`: one JSON object a line, a reply to each request.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use crate::session::SessionKind;

/// The longest line, in bytes: a CA, its bundle aside, is a few KiB.
pub const LINE_MAX: usize = 256 * 1024;

/// What a command asks.
#[derive(Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// A session token. That of a `run` is good while this connection is open.
    Session {
        /// The agent's name.
        agent: String,
        /// How long it is to last at most.
        ttl_seconds: u64,
        /// Who asks.
        kind: SessionKind,
    },
    /// Where the proxy is and what an agent's environment holds.
    Info {
        /// The agent whose placeholders are wanted, if any.
        #[serde(default)]
        agent: Option<String>,
    },
    /// Read the store and the configuration again.
    Reload,
    /// Hold a `run`'s session by this connection, after `serve` was restarted.
    Hold {
        /// The token.
        token: Token,
    },
}

impl Request {
    /// Reads a line; `None` where it is no request. One is an object: serde would take `["hold", "khs_x"]` as well.
    #[must_use]
    pub fn parse(line: &[u8]) -> Option<Self> {
        line.trim_ascii_start().starts_with(b"{").then(|| serde_json::from_slice(line).ok()).flatten()
    }
}

/// What `serve` answers.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// To `session`.
    Session {
        /// The token.
        token: Token,
        /// The first moment at which it is no longer good, in seconds since 1970-01-01T00:00:00Z.
        expires: i64,
    },
    /// To `info`.
    Info(Box<Info>),
    /// To `reload` and `hold`.
    Done {},
    /// To any, where it could not be done.
    Error(OpError),
}

/// A session token on its way. It has no `Debug` or `Display`, and is wiped on drop.
pub struct Token(Zeroizing<String>);

impl Token {
    /// Takes a token as [`crate::session::mint`] makes it.
    #[must_use]
    pub fn new(token: Zeroizing<String>) -> Self {
        Self(token)
    }

    /// The token.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl Serialize for Token {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Token {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|t| Self(Zeroizing::new(t)))
    }
}

/// Where the proxy is and what an agent's environment holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Info {
    /// The proxy's URL as `serve` listens, without a user: `http://127.0.0.1:8877`.
    pub listen: String,
    /// The URL of the proxy over TLS, where there is one.
    pub tls_listen: Option<String>,
    /// The URL that agents are to be told instead, where the configuration gives one.
    pub advertise: Option<String>,
    /// The CA's certificate, or certificates while one is followed by the next, in PEM.
    pub ca_pem: String,
    /// The home directory.
    pub home: String,
    /// The process's id.
    pub pid: u32,
    /// Variables and their values: the placeholders of what the agent was granted; empty where no agent was asked for.
    pub variables: Vec<(String, String)>,
}

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{message}")]
pub struct OpError {
    /// The kind.
    pub code: ErrorCode,
    /// One line for the operator.
    pub message: String,
}

impl OpError {
    /// Puts an error together.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// What kind of error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The request cannot be understood, or asks for too much.
    BadRequest,
    /// There is no such agent.
    NoSuchAgent,
    /// The token is not good, or its session is over.
    BadToken,
    /// The caller is another user.
    NotAllowed,
    /// It was tried and failed.
    Failed,
}

/// A message as a line, its line feed included. Wiped on drop, since it may hold a token.
#[must_use]
pub fn line(message: &impl Serialize) -> Zeroizing<Vec<u8>> {
    let mut out = Zeroizing::new(Vec::with_capacity(1024));
    serde_json::to_writer(&mut *out, message).expect("messages have string keys and go to memory");
    out.push(b'\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_as_documented() {
        let session = Request::Session { agent: "default".into(), ttl_seconds: 60, kind: SessionKind::Run };
        assert_eq!(&**line(&session), b"{\"op\":\"session\",\"agent\":\"default\",\"ttl_seconds\":60,\"kind\":\"run\"}\n");
        assert_eq!(&**line(&Request::Reload), b"{\"op\":\"reload\"}\n");
        for good in [r#"{"op":"info"}"#, r#"{"op":"info","agent":"a"}"#, r#"{"op":"hold","token":"khs_x"}"#] {
            assert!(Request::parse(good.as_bytes()).is_some(), "{good}");
        }
        for bad in [
            "",
            "{}",
            r#"["hold","khs_x"]"#,
            r#"{"op":"delete"}"#,
            r#"{"op":"info","agent":"a","x":1}"#,
            r#"{"op":"session","agent":"a","ttl_seconds":-1,"kind":"env"}"#,
        ] {
            assert!(Request::parse(bad.as_bytes()).is_none(), "{bad}");
        }
    }

    #[test]
    fn replies_are_as_documented() {
        assert_eq!(&**line(&Reply::Done {}), b"{\"done\":{}}\n");
        let error = Reply::Error(OpError::new(ErrorCode::NoSuchAgent, "no agent `x`"));
        assert_eq!(&**line(&error), b"{\"error\":{\"code\":\"no_such_agent\",\"message\":\"no agent `x`\"}}\n");
    }
}
