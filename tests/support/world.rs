//! The usual stage: an origin, a home whose `[resolve]` leads there, a `serve`.

use super::origin::AUTHORITY;
use super::{Agent, Home, Origin, Serve, fresh_key};

/// The hosts that most tests speak of; the origin's certificate holds for all of them.
pub const HOSTS: [&str; 9] = [
    "openrouter.ai",
    "api.openrouter.ai",
    "a.b.openrouter.ai",
    "evilopenrouter.ai",
    "openrouter.ai.evil.com",
    "openrouter.aix",
    "xn--penrouter-z2h.ai",
    "example.net",
    "api.example.com",
];

/// Everything that runs.
pub struct World {
    /// The running proxy. First, so that it goes first.
    pub serve: Serve,
    /// The origin of all hosts.
    pub origin: Origin,
    /// The home.
    pub home: Home,
    /// The real key of credential `real`.
    pub key: String,
}

impl World {
    /// One origin that demands the key; a credential `real` for `*.openrouter.ai`, without path rules.
    #[track_caller]
    pub fn new() -> Self {
        let key = fresh_key();
        Self::with_origin(Origin::demanding(&HOSTS, &key), key)
    }

    /// An origin that agrees to everything.
    #[track_caller]
    pub fn agreeable() -> Self {
        Self::with_origin(Origin::agreeable(&HOSTS), fresh_key())
    }

    /// An origin of the test's own.
    #[track_caller]
    pub fn with_origin(origin: Origin, key: String) -> Self {
        Self::with_configuration(origin, key, "")
    }

    /// The same, with more configuration.
    #[track_caller]
    pub fn with_configuration(origin: Origin, key: String, more: &str) -> Self {
        let mut home = Home::bare("");
        let configuration = configuration(&home, &origin, more);
        home.configure(&configuration);
        home.init_with_key_file();
        home.add_key("real", &["*.openrouter.ai"], &key);
        let serve = Serve::start(&home);
        Self { serve, origin, home, key }
    }

    /// Agent `default`.
    #[track_caller]
    pub fn agent(&self) -> Agent {
        Agent::new(&self.home, &self.serve)
    }

    /// What the origin must have got of `Authorization`.
    pub fn bearer(&self) -> String {
        format!("Bearer {}", self.key)
    }
}

/// A configuration whose hosts lead to the origin, at 443, 80 and 8443.
pub fn configuration(home: &Home, origin: &Origin, more: &str) -> String {
    let authority = home.outside().join("origins-ca.pem");
    std::fs::write(&authority, AUTHORITY.pem()).unwrap();
    let mut text = format!("{more}\n[upstream]\nextra_ca_files = [\"{}\"]\n[resolve]\n", authority.display());
    for host in HOSTS {
        for port in [443, 80, 8443] {
            text.push_str(&format!("\"{host}:{port}\" = \"{}\"\n", origin.address()));
        }
    }
    text
}
