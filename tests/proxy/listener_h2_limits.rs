//! Limits of an HTTP/2 connection to the proxy: of time, of number, and its end.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt as _;

use super::listener_h2::{demanding, far_end, open};
use crate::support::over_h2::{code, run, told};
use crate::support::raw::{PATIENCE, authorization};
use crate::support::{World, within};

#[test]
fn each_agent_on_a_connection_takes_a_place_of_its_own() {
    let world = demanding("[limits.per_agent]\nconnections = 1\n");
    world.home.ok(&["agent", "add", "second"]);
    let second = within(Duration::from_secs(1), "the agent is known", || {
        let said = world.home.say(&["env", "--agent", "second", "--format", "json"], "");
        (said.code == 0).then(|| authorization(said.json()["HTTPS_PROXY"].as_str().unwrap()))
    });
    run(async {
        let proxy = open(&world).await;
        let _first = [proxy.tunnel("openrouter.ai:443").await, proxy.tunnel("openrouter.ai:443").await];
        let (answer, _send) = proxy.connect_as("openrouter.ai:443", Some(&second)).await;
        assert_eq!(answer.status(), 200);
        let other = open(&world).await;
        for proof in [&proxy.proof, &second] {
            let (answer, _send) = other.connect_as("openrouter.ai:443", Some(proof)).await;
            assert_eq!(code(&told(answer).await), (503, "overloaded"));
        }
        drop((proxy, _first, answer, _send));
        let asked = Instant::now();
        while other.connect_as("openrouter.ai:443", Some(&second)).await.0.status() != 200 {
            assert!(asked.elapsed() < Duration::from_secs(5), "the place is free again");
        }
    });
}

/// How long the proxy keeps a connection on which this was said, after its HTTP/2 preface.
fn kept(world: &World, said: &[u8]) -> Duration {
    let mut stream = TcpStream::connect(world.serve.proxy()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
    stream.write_all(said).unwrap();
    let start = Instant::now();
    let _ = stream.read_to_end(&mut Vec::new());
    start.elapsed()
}

#[test]
fn who_proves_nothing_is_not_kept_for_long() {
    let world = demanding("[timeouts]\nrequest_head = \"300ms\"\n");
    // HEADERS of stream 1 without END_HEADERS: `:method GET`.
    let half_a_head = b"\0\0\x01\x01\0\0\0\0\x01\x82";
    for (case, said) in [("nothing", &b""[..]), ("half a head", half_a_head), ("a ping", b"\0\0\x08\x06\0\0\0\0\0abcdefgh")] {
        let kept = kept(&world, said);
        assert!((Duration::from_millis(250)..Duration::from_secs(12)).contains(&kept), "{case}: {kept:?}");
    }
    // Half a preface.
    let mut stream = TcpStream::connect(world.serve.proxy()).unwrap();
    stream.write_all(b"PRI * HT").unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    assert!(matches!(stream.read(&mut [0; 8]), Ok(0)));
}

#[test]
fn an_idle_connection_ends_at_its_limit_and_one_with_a_tunnel_does_not() {
    let (listener, world) = far_end();
    let text = std::fs::read_to_string(world.home.path().join("keyhatch.toml")).unwrap();
    std::fs::write(world.home.path().join("keyhatch.toml"), format!("{text}\n[timeouts]\nidle = \"700ms\"\n")).unwrap();
    world.home.json_env(&[]);
    run(async {
        let proxy = open(&world).await;
        let mut tunnel = proxy.tunnel("example.net:443").await;
        let (mut far, _) = listener.accept().unwrap();
        // A trickle, for longer than the limit.
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_millis(300)).await;
            far.write_all(b"x").unwrap();
            tunnel.read_exact(&mut [0]).await.unwrap();
        }
        // Silence ends the tunnel, and then the connection.
        assert_eq!(tunnel.read(&mut [0]).await.unwrap_or(0), 0);
        let asked = Instant::now();
        while proxy.send.clone().ready().await.is_ok() {
            assert!(asked.elapsed() < Duration::from_secs(10), "the connection ends");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
}

#[test]
fn sigterm_lets_tunnels_finish_and_says_goaway() {
    let (listener, mut world) = far_end();
    run(async {
        let proxy = open(&world).await;
        let mut tunnel = proxy.tunnel("example.net:443").await;
        let (mut far, _) = listener.accept().unwrap();
        world.serve.terminate();
        let asked = Instant::now();
        while proxy.send.clone().ready().await.is_ok() {
            assert!(asked.elapsed() < Duration::from_secs(5), "no more tunnels are taken");
            far.write_all(b"x").unwrap();
            tunnel.read_exact(&mut [0]).await.unwrap();
        }
        far.write_all(b"last").unwrap();
        drop(far);
        let mut rest = String::new();
        tunnel.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "last");
    });
    assert!(world.serve.wait(Duration::from_secs(10)).success());
}
