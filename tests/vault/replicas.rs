//! Replicas behind one address: what one has begun another goes on with.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::fleet::{ALL, Fleet, OPENROUTER, SOON};
use crate::support::raw::{Conn, PATIENCE, read_reply};
use crate::support::{Agent, Bao, Serve, fresh_key, within};

/// Clients, each with a connection that it keeps, and how often each asks.
const CLIENTS: u32 = 10;
const PERIOD: Duration = Duration::from_millis(50);
/// So many requests go over one connection, as with a client that has a pool: then another replica has its turn.
const KEPT: usize = 25;

/// A balancer of TCP connections, as a service of Kubernetes is one: in turn to the replicas that take them.
struct Balancer {
    address: SocketAddr,
    shared: Arc<Behind>,
}

#[derive(Default)]
struct Behind {
    replicas: Mutex<Vec<SocketAddr>>,
    turn: AtomicUsize,
    /// Which replica a client's connection went to, by the client's port.
    went: Mutex<BTreeMap<u16, SocketAddr>>,
    /// The connections that are open, by replica.
    open: Mutex<BTreeMap<SocketAddr, usize>>,
    stop: AtomicBool,
}

impl Balancer {
    fn start(replicas: Vec<SocketAddr>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Behind { replicas: Mutex::new(replicas), ..Behind::default() });
        let own = Arc::clone(&shared);
        std::thread::spawn(move || {
            while let Ok((client, from)) = listener.accept() {
                if own.stop.load(Ordering::SeqCst) {
                    return;
                }
                own.pass(client, from.port());
            }
        });
        Self { address, shared }
    }

    /// Another address in the place of the first.
    fn replace(&self, old: SocketAddr, new: SocketAddr) {
        self.shared.replicas.lock().unwrap().iter_mut().filter(|a| **a == old).for_each(|a| *a = new);
    }

    fn went(&self, port: u16) -> Option<SocketAddr> {
        self.shared.went.lock().unwrap().get(&port).copied()
    }

    fn open(&self, replica: SocketAddr) -> usize {
        self.shared.open.lock().unwrap().get(&replica).copied().unwrap_or(0)
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

impl Behind {
    /// Hands a client to the first replica that takes it, beginning with the one whose turn it is.
    fn pass(self: &Arc<Self>, client: TcpStream, port: u16) {
        let replicas = self.replicas.lock().unwrap().clone();
        let turn = self.turn.fetch_add(1, Ordering::SeqCst);
        let in_turn = (0..replicas.len()).map(|i| replicas[(turn + i) % replicas.len()]);
        let Some((replica, server)) = in_turn.filter_map(|a| TcpStream::connect(a).ok().map(|s| (a, s))).next() else { return };
        self.went.lock().unwrap().insert(port, replica);
        *self.open.lock().unwrap().entry(replica).or_default() += 1;
        let both = Arc::new(AtomicUsize::new(2));
        for (from, to) in [(&client, &server), (&server, &client)] {
            let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
            let (both, own) = (Arc::clone(&both), Arc::clone(self));
            to.set_nodelay(true).unwrap();
            std::thread::spawn(move || {
                let _ = io::copy(&mut from, &mut to);
                let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
                if both.fetch_sub(1, Ordering::SeqCst) == 1 {
                    *own.open.lock().unwrap().get_mut(&replica).unwrap() -= 1;
                }
            });
        }
    }
}

/// A request that got no good answer: when, and at which replica.
#[derive(Debug, Clone)]
struct Failure {
    at: Instant,
    replica: Option<SocketAddr>,
    #[allow(dead_code, reason = "for the message of a failed test")]
    what: String,
}

/// Clients that ask all the while.
struct Load {
    done: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    failures: Arc<Mutex<Vec<Failure>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// The agents take turns among the clients.
    fn start(balancer: &Arc<Balancer>, agents: &[Agent]) -> Self {
        let mut load = Self { done: Arc::default(), stop: Arc::default(), failures: Arc::default(), threads: Vec::new() };
        for i in 0..CLIENTS {
            let mut client = Client { balancer: Arc::clone(balancer), agent: agents[i as usize % agents.len()].clone(), conn: None };
            let (done, stop, failures) = (Arc::clone(&load.done), Arc::clone(&load.stop), Arc::clone(&load.failures));
            let mut next = Instant::now() + PERIOD * i / CLIENTS;
            load.threads.push(std::thread::spawn(move || {
                while !stop.load(Ordering::SeqCst) {
                    // The pace of the load; nothing waits for it.
                    std::thread::sleep(next.saturating_duration_since(Instant::now()));
                    next += PERIOD;
                    // As clients do: on a broken connection another one, and the same again.
                    while let Err(failure) = client.ask() {
                        failures.lock().unwrap().push(failure);
                        if stop.load(Ordering::SeqCst) {
                            return;
                        }
                    }
                    done.fetch_add(1, Ordering::SeqCst);
                }
            }));
        }
        load
    }

    /// Waits until so many more requests are done.
    fn go_on(&self, more: usize) {
        let wanted = self.done.load(Ordering::SeqCst) + more;
        within(PATIENCE, "a load", || (self.done.load(Ordering::SeqCst) >= wanted).then_some(()));
    }

    /// The failures so far, which are forgotten.
    fn failures(&self) -> Vec<Failure> {
        std::mem::take(&mut *self.failures.lock().unwrap())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        self.threads.drain(..).for_each(|t| drop(t.join()));
    }
}

struct Client {
    balancer: Arc<Balancer>,
    agent: Agent,
    /// The connection, its port, and how many requests went over it.
    conn: Option<(Conn, u16, usize)>,
}

impl Client {
    fn ask(&mut self) -> Result<(), Failure> {
        let mut port = None;
        let asked = self.try_ask(&mut port);
        let status = asked.as_ref().map_or(0, |status| *status);
        if status == 200 {
            return Ok(());
        }
        self.conn = None;
        let what = asked.map_or_else(|e| e.to_string(), |status| format!("status {status}"));
        Err(Failure { at: Instant::now(), replica: port.and_then(|p| self.balancer.went(p)), what })
    }

    fn try_ask(&mut self, port: &mut Option<u16>) -> io::Result<u16> {
        if self.conn.as_ref().is_none_or(|(_, _, used)| *used >= KEPT) {
            self.conn = None;
            let mut stream = TcpStream::connect(self.balancer.address)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_nodelay(true)?;
            let own = stream.local_addr()?.port();
            *port = Some(own);
            let (target, auth) = (format!("{OPENROUTER}:443"), &self.agent.authorization);
            write!(stream, "CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nProxy-Authorization: {auth}\r\n\r\n")?;
            let reply = read_reply(&mut stream, Some("CONNECT"))?;
            if reply.status != 200 {
                return Ok(reply.status);
            }
            self.conn = Some((self.agent.handshake(stream, OPENROUTER, true)?, own, 0));
        }
        let (conn, own, used) = self.conn.as_mut().unwrap();
        (*port, *used) = (Some(*own), *used + 1);
        conn.try_send(format!("GET /api/v1/models HTTP/1.1\r\nHost: {OPENROUTER}\r\n\r\n"))?;
        conn.try_reply().map(|reply| reply.status)
    }
}

/// Kills one replica under the load: nothing fails but what was under way at that one, and that goes well at the other.
#[track_caller]
fn survives(load: &Load, balancer: &Balancer, killed: &mut Serve, other: SocketAddr) {
    let gone = killed.proxy();
    within(PATIENCE, "both have their share", || (balancer.open(gone) >= 2 && balancer.open(other) >= 2).then_some(()));
    load.go_on(100);
    let before = load.failures();
    assert!(before.is_empty(), "nothing fails while both run: {before:?}");
    let at = Instant::now();
    killed.kill();
    load.go_on(200);
    let failures = load.failures();
    assert!(!failures.is_empty(), "it had connections open");
    assert!(failures.iter().all(|f| !f.what.starts_with("status 4")), "nobody was refused: {failures:?}");
    assert!(failures.iter().all(|f| f.replica == Some(gone) && f.at >= at), "of {gone} alone, {other} goes on: {failures:?}");
    assert!(failures.len() <= 2 * CLIENTS as usize, "each client met it once or twice: {failures:?}");
    load.go_on(200);
    let after = load.failures();
    assert!(after.is_empty(), "and then it is over: {after:?}");
}

#[test]
fn one_of_two_is_killed_under_load_and_the_other_way_round() {
    let Some(bao) = Bao::dev("vault::replicas::one_of_two_is_killed_under_load_and_the_other_way_round") else { return };
    let (key, token) = (fresh_key(), fresh_key());
    bao.put("secret/keyhatch/openrouter", &[("api_key", &key)]);
    bao.custom_metadata("secret/keyhatch/openrouter", &[("agents", "builder")]);
    bao.put("secret/keyhatch-agents/builder", &[("token", &token)]);
    let mut fleet = Fleet::new(bao, ALL);
    fleet.start(2);
    let sessions = fleet.replicas.iter().map(|r| Agent::named(&r.home, &r.serve, "builder")).collect::<Vec<_>>();
    let agents = [sessions, vec![fleet.replicas[0].agent_with("builder", &token)]].concat();
    let (one, two) = (fleet.replicas[0].serve.proxy(), fleet.replicas[1].serve.proxy());
    let balancer = Arc::new(Balancer::start(vec![one, two]));
    let load = Load::start(&balancer, &agents);

    survives(&load, &balancer, &mut fleet.replicas[0].serve, two);
    // It comes back, at another port.
    fleet.replicas[0].serve = Serve::start(&fleet.replicas[0].home);
    let again = fleet.replicas[0].serve.proxy();
    balancer.replace(one, again);
    survives(&load, &balancer, &mut fleet.replicas[1].serve, again);
    drop(load);
    let wanted = format!("Bearer {key}");
    assert!(fleet.origin.recorded().iter().all(|r| r.values("authorization") == [wanted.as_str()]), "nothing went out bare");
}

#[test]
fn a_change_in_vault_reaches_all_of_them() {
    let Some(bao) = Bao::dev("vault::replicas::a_change_in_vault_reaches_all_of_them") else { return };
    let (first, second, token) = (fresh_key(), fresh_key(), fresh_key());
    bao.put("secret/keyhatch/openrouter", &[("api_key", &first)]);
    bao.custom_metadata("secret/keyhatch/openrouter", &[("agents", "builder")]);
    bao.put("secret/keyhatch-agents/builder", &[("token", &token)]);
    let mut fleet = Fleet::new(bao, ALL);
    fleet.start(3);
    let agents = fleet.replicas.iter().map(|r| r.agent_with("builder", &token)).collect::<Vec<_>>();
    let carried = || agents.iter().map(|agent| fleet.ask_as(agent, OPENROUTER, "/api/v1/x")).collect::<BTreeSet<_>>();
    let all = |answer: (u16, Option<String>)| BTreeSet::from([answer]);
    assert_eq!(carried(), all((200, Some(format!("Bearer {first}")))));
    fleet.bao.put("secret/keyhatch/openrouter", &[("api_key", &second)]);
    within(SOON, "all carry the new one", || (carried() == all((200, Some(format!("Bearer {second}"))))).then_some(()));
    // An agent that is removed is removed everywhere, its sessions of one replica at the others too.
    let replica = &fleet.replicas[0];
    let session = Agent::named(&replica.home, &replica.serve, "builder");
    let mut elsewhere = [session.clone(), session];
    elsewhere.iter_mut().zip(&fleet.replicas[1..]).for_each(|(agent, r)| agent.proxy = r.serve.proxy());
    assert!(elsewhere.iter().all(|agent| agent.connect("example.net:443").0.status == 200));
    fleet.bao.purge("secret/keyhatch-agents/builder");
    let refused = |agent: &Agent| agent.try_connect("example.net:443").is_ok_and(|(reply, _)| reply.status == 407);
    within(SOON, "it is gone from all", || elsewhere.iter().chain(&agents).all(refused).then_some(()));
}
