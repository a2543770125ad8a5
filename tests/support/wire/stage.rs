//! The stage of a wire test: an origin of each protocol, a home that leads to both, a `serve`, and agents.

use std::net::SocketAddr;

use super::super::origin::AUTHORITY;
use super::super::{Home, Serve, fresh_key, raw};
use super::{Ending, Offer, Protocol, Turn, WireAgent, WireOrigin};

/// Everything that runs.
pub struct Stage {
    /// The running proxy. First, so that it goes first.
    pub serve: Serve,
    /// The origin over HTTP/1.1.
    pub h1: WireOrigin,
    /// The origin over HTTP/2.
    pub h2: WireOrigin,
    /// The home.
    pub home: Home,
    /// The real key of the credential for the matched hosts.
    pub key: String,
}

/// The name by which the origin of a protocol is known: injected, or tunnelled.
pub fn host(origin: Protocol, matched: bool) -> &'static str {
    match (origin, matched) {
        (Protocol::H1, true) => "one.matched.test",
        (Protocol::H2, true) => "two.matched.test",
        (Protocol::H1, false) => "one.blind.test",
        (Protocol::H2, false) => "two.blind.test",
    }
}

impl Stage {
    /// Both origins have the same handler.
    pub async fn start<F, A>(handler: F) -> Self
    where
        F: Fn(Turn) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Result<(), Ending>> + Send + 'static,
    {
        Self::with(Offer::of(Protocol::H2), "", handler).await
    }

    /// The same, with what the HTTP/2 origin offers and more configuration.
    pub async fn with<F, A>(h2: Offer, more: &str, handler: F) -> Self
    where
        F: Fn(Turn) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Result<(), Ending>> + Send + 'static,
    {
        Self::dressed(h2, more, |home| add(home, &[], &fresh_key()), handler).await
    }

    /// The same where the test adds the credential `real` itself; it gives the key.
    pub async fn dressed<F, A>(h2: Offer, more: &str, add: impl FnOnce(&Home) -> String, handler: F) -> Self
    where
        F: Fn(Turn) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Result<(), Ending>> + Send + 'static,
    {
        let names = ["*.matched.test", "*.blind.test"];
        let h1 = WireOrigin::start(&names, Offer::of(Protocol::H1), handler.clone()).await;
        let h2 = WireOrigin::start(&names, h2, handler).await;
        let address = |origin| if origin == Protocol::H1 { h1.address() } else { h2.address() };
        let all = [(Protocol::H1, true), (Protocol::H1, false), (Protocol::H2, true), (Protocol::H2, false)];
        let hosts = all.map(|(origin, matched)| (host(origin, matched).to_owned(), address(origin)));
        let (home, serve, key) = serve_dressed(&hosts, more, &[], add);
        Self { serve, h1, h2, home, key }
    }

    /// The origin of a protocol.
    pub fn origin(&self, protocol: Protocol) -> &WireOrigin {
        match protocol {
            Protocol::H1 => &self.h1,
            Protocol::H2 => &self.h2,
        }
    }

    /// Agent `default`.
    pub fn agent(&self) -> WireAgent {
        agent(&self.home, &self.serve)
    }

    /// A client that goes straight to the origin.
    pub fn direct(&self, protocol: Protocol) -> WireAgent {
        WireAgent { to: self.origin(protocol).address(), authorization: None, ..self.agent() }
    }

    /// What the origin must have got of `Authorization`.
    pub fn bearer(&self) -> String {
        format!("Bearer {}", self.key)
    }
}

/// A home with a credential for `*.matched.test`, a running proxy whose hosts lead to these addresses, and the key; in the order that
/// lets the proxy end before its home.
pub fn serve(hosts: &[(String, SocketAddr)], more: &str) -> (Home, Serve, String) {
    serve_with(hosts, more, &[])
}

/// The same with variables in the proxy's environment.
pub fn serve_with(hosts: &[(String, SocketAddr)], more: &str, variables: &[(&str, &str)]) -> (Home, Serve, String) {
    serve_dressed(hosts, more, variables, |home| add(home, &[], &fresh_key()))
}

/// Adds the credential `real` for `*.matched.test`; gives the key back.
pub fn add(home: &Home, more: &[&str], key: &str) -> String {
    home.ok_with(&[&["credential", "add", "real", "--allow", "*.matched.test"], more].concat(), key);
    key.to_owned()
}

fn serve_dressed(hosts: &[(String, SocketAddr)], more: &str, variables: &[(&str, &str)], add: impl FnOnce(&Home) -> String) -> (Home, Serve, String) {
    let home = Home::with_key_file("");
    let authority = home.outside().join("origins-ca.pem");
    std::fs::write(&authority, AUTHORITY.pem()).unwrap();
    let mut text = format!("{more}\n[upstream]\nextra_ca_files = [\"{}\"]\n[resolve]\n", authority.display());
    for (host, address) in hosts {
        text.push_str(&format!("\"{host}:443\" = \"{address}\"\n"));
    }
    home.configure(&text);
    let key = add(&home);
    let serve = Serve::start_with(&home, &[], variables);
    (home, serve, key)
}

/// Agent `default` of a running proxy.
pub fn agent(home: &Home, serve: &Serve) -> WireAgent {
    let authorization = raw::authorization(&serve.env["HTTPS_PROXY"]);
    WireAgent { to: serve.proxy(), authorization: Some(authorization), ca: home.path().join("ca.pem"), window: 256 << 10 }
}
