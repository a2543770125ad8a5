//! The one map from an error to what the agent sees.

use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::error::{Code, ProxyError};
use crate::audit::RequestId;
use crate::message::h1::{Framing, write_response};

/// The answer to a request that the proxy refuses or could not carry out: status, fields and body.
pub(super) fn own_answer(error: &ProxyError, id: RequestId) -> (StatusCode, HeaderMap, String) {
    let (word, status, proxy_error) = error.code.parts();
    let mut headers = HeaderMap::with_capacity(6);
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    // RFC 9209 2.1: the proxy's name, the error's type, and the code and id as parameters of ours.
    let proxy_status = format!("keyhatch; error={proxy_error}; details=\"{word}\"; id=\"{id}\"");
    headers.insert("proxy-status", HeaderValue::try_from(proxy_status).expect("plain ASCII"));
    match error.code {
        Code::ProxyAuthRequired => {
            headers.insert("proxy-authenticate", HeaderValue::from_static("Basic realm=\"keyhatch\""));
        }
        Code::MethodDenied => {
            headers.insert("allow", HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
        }
        Code::Overloaded => {
            headers.insert("retry-after", HeaderValue::from_static("1"));
        }
        _ => {}
    }
    if let Some(after) = error.retry_after {
        // RFC 9110 10.2.3: whole seconds, and never "at once".
        headers.insert("retry-after", HeaderValue::from(after.as_secs().max(1)));
    }
    let status = StatusCode::from_u16(status).expect("a status of the table");
    (status, headers, body(word, &error.message, id))
}

/// Writes that answer as HTTP/1.1. `close` says that the connection ends after it.
pub(super) fn write_error(out: &mut Vec<u8>, error: &ProxyError, id: RequestId, method: &Method, close: bool) {
    let (status, mut headers, body) = own_answer(error, id);
    if close {
        headers.insert("connection", HeaderValue::from_static("close"));
    }
    let reason = reason_phrase(status, error, method);
    write_response(out, status, reason.as_bytes(), &headers, Framing::Length(body.len() as u64));
    if *method != Method::HEAD {
        out.extend_from_slice(body.as_bytes());
    }
}

/// The body that the OpenAI SDKs print.
fn body(word: &str, message: &str, id: RequestId) -> String {
    let value = serde_json::json!({"error": {"type": "keyhatch", "code": word, "message": message, "id": id.to_string()}});
    let mut text = value.to_string();
    text.push('\n');
    text
}

/// A refused CONNECT says why in its reason phrase: all that many clients show.
fn reason_phrase(status: StatusCode, error: &ProxyError, method: &Method) -> String {
    let usual = status.canonical_reason().unwrap_or("Error");
    if *method != Method::CONNECT {
        return usual.to_owned();
    }
    let shown: String = error.message.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).take(200).collect();
    format!("{usual} (keyhatch {}: {shown})", error.code.word())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(method: &Method) -> String {
        let mut out = Vec::new();
        let error = ProxyError::new(Code::EgressDenied, "evil\r\nX: y is \"named\"");
        write_error(&mut out, &error, RequestId(0xab), method, true);
        String::from_utf8(out).expect("utf-8")
    }

    #[test]
    fn an_answer_has_its_parts() {
        let text = written(&Method::GET);
        assert!(text.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{text}");
        assert!(text.contains("proxy-status: keyhatch; error=http_request_denied; details=\"egress_denied\"; id=\"00000000000000ab\"\r\n"));
        let json: serde_json::Value = serde_json::from_str(text.split("\r\n\r\n").nth(1).expect("body")).expect("json");
        assert_eq!(json["error"]["code"], "egress_denied");
        assert_eq!(json["error"]["id"], "00000000000000ab");
    }

    #[test]
    fn a_refused_connect_says_why_in_its_reason() {
        let text = written(&Method::CONNECT);
        assert!(text.starts_with("HTTP/1.1 403 Forbidden (keyhatch egress_denied: evil??X: y is \"named\")\r\n"), "{text}");
        assert!(written(&Method::HEAD).ends_with("\r\n\r\n"));
    }
}
