//! Units of the log-in.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::atomic::AtomicUsize;

use super::super::settings::VaultSettings;
use super::*;

#[test]
fn refusals_hold_longer_and_longer_unless_the_file_changes() {
    let failed = |kind, times, ago| {
        let error = VaultError::new(kind, "");
        Failed { at: Instant::now().checked_sub(Duration::from_millis(ago)).expect("the machine is up longer"), error, times, file: Some([1; 32]) }
    };
    let (refused, outage) = (VaultErrorKind::LoginRefused, VaultErrorKind::Unreachable);
    assert!(failed(refused, 1, 500).holds(Some([1; 32])) && !failed(refused, 1, 1500).holds(Some([1; 32])));
    assert!(failed(refused, 3, 3500).holds(Some([1; 32])) && !failed(refused, 3, 4500).holds(Some([1; 32])));
    assert!(!failed(refused, 3, 0).holds(Some([2; 32])) && !failed(refused, 3, 0).holds(None));
    assert!(!failed(refused, 90, 60_500).holds(Some([1; 32])));
    assert!(failed(outage, 9, 500).holds(None) && !failed(outage, 9, 1500).holds(Some([1; 32])));
}

#[test]
fn what_is_due_comes_before_two_thirds() {
    let life = Duration::from_secs(60);
    for _ in 0..100 {
        let wait = due_after(life) - Instant::now();
        assert!(wait > life.mul_f64(0.49) && wait <= life.mul_f64(0.66), "{wait:?}");
    }
}

/// A Vault that takes every log-in and refuses every path but those of the token itself. Counts the log-ins.
fn refusing() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("bound"));
    let log_ins = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&log_ins);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (Ok(mut stream), mut head) = (stream, Vec::new()) else { continue };
            let mut buffer = [0; 2048];
            // A body is read too: closed with some of it unread, the connection would be reset.
            let is_whole = |all: &[u8]| {
                let text = String::from_utf8_lossy(all).to_ascii_lowercase();
                text.split_once("\r\n\r\n").is_some_and(|(head, body)| {
                    let length = head.lines().find_map(|l| l.strip_prefix("content-length:")?.trim().parse().ok());
                    body.len() >= length.unwrap_or(0)
                })
            };
            while !is_whole(&head) {
                match stream.read(&mut buffer) {
                    Ok(n) if n > 0 => head.extend_from_slice(&buffer[..n]),
                    _ => break,
                }
            }
            let head = String::from_utf8_lossy(&head);
            let (status, body) = if head.contains("/login") {
                count.fetch_add(1, Ordering::SeqCst);
                (200, r#"{"auth":{"client_token":"s.own","lease_duration":3600,"renewable":true}}"#)
            } else if head.contains("/lookup-self") {
                (200, r#"{"data":{"ttl":3600,"renewable":true}}"#)
            } else {
                (403, r#"{"errors":["1 error occurred: * permission denied"]}"#)
            };
            let _ = write!(stream, "HTTP/1.1 {status} S\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        }
    });
    (address, log_ins)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_stays_refused_causes_one_log_in() {
    let (address, log_ins) = refusing();
    let login = Login::AppRole { mount: "approle".into(), role_id: "r".into(), secret_id_file: None, wrapped: false };
    let settings = VaultSettings::new(address, login);
    // Every token counts as old enough to be replaced.
    let vault = Vault::with(settings, Duration::ZERO).expect("good settings");
    for _ in 0..5 {
        let answer = vault.ask(&Call::read("secret/metadata/a")).await.expect("an answer");
        assert!(answer.is_refusal());
    }
    assert_eq!(log_ins.load(Ordering::SeqCst), 2, "one at the start, one for another policy");
}
