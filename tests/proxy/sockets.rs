//! The sockets themselves: their options, and what happens when there are no more of them.

use std::net::TcpStream;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, Resource, Rlimit, pidfd_getfd, pidfd_open, prlimit};

use crate::support::{Serve, World, skip, within};

fn descriptors(serve: &Serve) -> Vec<i32> {
    let dir = std::fs::read_dir(format!("/proc/{}/fd", serve.pid())).unwrap();
    dir.filter_map(|entry| entry.ok()?.file_name().to_string_lossy().parse().ok()).collect()
}

/// The TCP connections of the process, where the system lets one look at them.
fn connections(serve: &Serve) -> Result<Vec<OwnedFd>, Errno> {
    let process = pidfd_open(Pid::from_raw(serve.pid().cast_signed()).unwrap(), PidfdFlags::empty())?;
    let mut found = Vec::new();
    for number in descriptors(serve) {
        match pidfd_getfd(&process, number, PidfdGetfdFlags::empty()) {
            Ok(fd) if is_tcp_connection(&fd) => found.push(fd),
            // It may have been closed meanwhile.
            Ok(_) | Err(Errno::BADF) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

fn is_tcp_connection(fd: &OwnedFd) -> bool {
    sockopt::tcp_nodelay(fd.as_fd()).is_ok() && rustix::net::getpeername(fd).is_ok_and(|peer| peer.is_some())
}

#[test]
fn no_connection_waits_for_nagle_and_each_is_probed() {
    let world = World::agreeable();
    let agent = world.agent();
    let mut held = (agent.open("openrouter.ai:443"), agent.open("example.net:443"));
    assert_eq!((held.0.get("openrouter.ai", "/").status, held.1.get("example.net", "/").status), (200, 200));
    let found = match connections(&world.serve) {
        Ok(found) => found,
        Err(error) => return skip("no_connection_waits_for_nagle_and_each_is_probed", &format!("no pidfd_getfd here: {error}")),
    };
    // Two of the agent's, two to the origin.
    assert!(found.len() >= 4, "{found:?}");
    for fd in &found {
        assert!(sockopt::tcp_nodelay(fd).unwrap() && sockopt::socket_keepalive(fd).unwrap(), "{:?}", rustix::net::getpeername(fd));
        assert_eq!(sockopt::tcp_keepidle(fd).unwrap(), Duration::from_secs(60));
    }
}

#[test]
fn running_out_of_descriptors_is_survived() {
    let world = World::agreeable();
    let agent = world.agent();
    let mut kept = agent.open("openrouter.ai:443");
    assert_eq!(kept.get("openrouter.ai", "/").status, 200);
    let pid = Pid::from_raw(world.serve.pid().cast_signed()).unwrap();
    let room = 8 + descriptors(&world.serve).len() as u64;
    prlimit(Some(pid), Resource::Nofile, Rlimit { current: Some(room), maximum: Some(room) }).unwrap();
    let crowd: Vec<_> = (0..60).map(|_| TcpStream::connect(agent.proxy).unwrap()).collect();
    // The last few are kept for other things than connections.
    within(Duration::from_secs(5), "there are no more descriptors", || (descriptors(&world.serve).len() as u64 + room / 8 + 1 >= room).then_some(()));
    // What is open goes on, and does so without the descriptors that it has not got.
    for _ in 0..20 {
        assert_eq!(kept.get("openrouter.ai", "/").status, 200);
    }
    drop(crowd);
    within(Duration::from_secs(10), "new connections are taken again", || {
        agent.try_open("openrouter.ai:443").ok().map(|mut conn| assert_eq!(conn.get("openrouter.ai", "/").status, 200))
    });
    assert!(!world.serve.log().contains("panicked"), "{}", world.serve.log());
}
