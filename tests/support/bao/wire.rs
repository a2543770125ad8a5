//! Straight HTTP to the server's API: a millisecond where the command takes a hundred.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use serde_json::Value;

use super::Bao;
use crate::support::raw::{PATIENCE, Reply, read_reply};

/// A header on every call of a test's own, in the letters that the audit log has for it.
pub(super) const MARK: &str = "x-keyhatch-test";

impl Bao {
    /// A call as root that must succeed: `api("POST", "sys/policies/acl/one", json!({...}))`. `Null` sends no body and is what an empty answer gives.
    #[track_caller]
    pub fn api(&self, method: &str, path: &str, body: Value) -> Value {
        let (status, answer) = self.api_as(&self.token, method, path, &body);
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        answer
    }

    /// A call with any token (or none, where it is empty): status and answer.
    #[track_caller]
    pub fn api_as(&self, token: &str, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let reply = self.call(token, method, path, body).unwrap_or_else(|e| panic!("{method} {path}: {e}"));
        let answer = if reply.body.is_empty() { Value::Null } else { serde_json::from_slice(&reply.body).unwrap() };
        (reply.status, answer)
    }

    /// The status of `sys/health`: 200, 429 (standby), 501 (not initialised), 503 (sealed); `None` where nothing answers.
    pub fn health(&self) -> Option<u16> {
        self.call("", "GET", "sys/health", &Value::Null).ok().map(|reply| reply.status)
    }

    fn call(&self, token: &str, method: &str, path: &str, body: &Value) -> io::Result<Reply> {
        let stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let token = if token.is_empty() { String::new() } else { format!("X-Vault-Token: {token}\r\n") };
        let length = body.len();
        let request = format!(
            "{method} /v1/{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n{MARK}: 1\r\n{token}Content-Length: {length}\r\n\r\n{body}"
        );
        let Some(tls) = &self.tls else { return exchange(stream, &request) };
        let name = ServerName::try_from("127.0.0.1").map_err(io::Error::other)?;
        let client = ClientConnection::new(tls.client_config(), name).map_err(io::Error::other)?;
        exchange(StreamOwned::new(client, stream), &request)
    }
}

fn exchange(mut wire: impl Read + Write, request: &str) -> io::Result<Reply> {
    wire.write_all(request.as_bytes())?;
    wire.flush()?;
    read_reply(&mut wire, None)
}
