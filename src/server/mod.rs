//! A running Keyhatch: the edges joined, listeners open, state kept fresh. `serve`, `run` and `demo` all start this.

mod authority;
mod checkpoints;
pub mod discovered;
mod error;
mod ground;
mod keeper;
mod listen;
mod ops;
mod patience;
mod picture;
mod remote;
mod settings;
mod signing;
mod state;
pub mod transit;
mod usage;
mod vault_settings;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::config::Config;
use crate::home::Home;
use crate::proxy::Proxy;
use crate::upstream::OffLimits;
use crate::vault::hashicorp::Vault;
use crate::vault::local::LocalStore;
use error::failed;
use ground::{Ground, Opened};

pub use authority::{shared_ca, signs_ca};
pub use checkpoints::{StoreCheckpoints, audit_key};
pub use error::{ReloadError, StartError};
pub use ground::missing_for_no_store;
pub use keeper::{CA_ITEM, NoCheckpoints};
pub use listen::{Addresses, Bound, ListenError, Listening};
pub use ops::Ops;
pub use picture::Picture;
pub use remote::{Remote, vault_client};
pub use settings::{dialer, egress};
pub use signing::SigningKeys;
pub use state::State;
pub use vault_settings::{Asker, is_for_the_proxy_alone, speaks_of_vault, vault_settings};

/// Idle connections are looked over so often.
const SWEEP: Duration = Duration::from_secs(5);
/// What is over is cleared away so often.
const TIDY: Duration = Duration::from_secs(60 * 60);
/// The store is asked for changes so often.
const POLL: Duration = Duration::from_millis(200);

/// What to start.
pub struct ServerOptions {
    /// The home.
    pub home: Home,
    /// Where the configuration stands, for reloads.
    pub config_file: PathBuf,
    /// Whether that file must exist.
    pub config_required: bool,
    /// The configuration as read.
    pub config: Config,
    /// The store, unlocked; `None` where everything is in Vault.
    pub store: Option<Arc<LocalStore>>,
    /// What unlocked the store by Vault: a secret id that was unwrapped for it is not to be had again.
    pub vault: Option<Arc<Vault>>,
    /// Whether this is the home's `serve`: it alone listens on `admin.sock` and for metrics.
    pub is_serve: bool,
}

/// A running proxy. Dropping it stops it at once; [`Running::shutdown`] drains it first.
pub struct Running {
    state: Arc<State>,
    listening: Listening,
    tasks: JoinSet<()>,
    stop: watch::Sender<bool>,
    drain: Duration,
}

/// Starts the proxy.
///
/// # Errors
/// [`StartError`]: nothing is left running.
pub async fn start(options: ServerOptions) -> Result<Running, StartError> {
    let started = start_unless(options, std::future::pending()).await?;
    Ok(started.expect("nothing else ends it"))
}

/// The same, given up where `ended` completes first: `None`.
///
/// # Errors
/// [`StartError`]: nothing is left running, and no token of Vault behind.
pub async fn start_unless(options: ServerOptions, ended: impl Future<Output = ()>) -> Result<Option<Running>, StartError> {
    let mut opened = Opened { vault: options.vault.clone(), state: None };
    let started = tokio::select! {
        started = begin(options, &mut opened) => started.map(Some),
        () = ended => Ok(None),
    };
    if !matches!(started, Ok(Some(_))) {
        opened.close().await;
    }
    started
}

async fn begin(options: ServerOptions, opened: &mut Opened) -> Result<Running, StartError> {
    let mut listening = Listening::bind(&options.config, options.is_serve).await?;
    let drain = options.config.timeouts.drain;
    let is_serve = options.is_serve;
    let off_limits = OffLimits { listeners: listening.own_addresses(), ..OffLimits::default() };
    let (ground, authority) = Ground::prepare(&options, opened).await?;
    let refresh = options.config.vault.refresh;
    let building = tokio::task::spawn_blocking(move || State::build(options, ground, off_limits));
    let state = building.await.map_err(|_| failed("the start was cut short"))??;
    opened.state = Some(Arc::clone(&state));
    if let Some(remote) = state.remote() {
        // Requests that come at once are to find their credentials.
        remote.settled().await;
    }
    let stop = watch::Sender::new(false);
    let mut tasks = JoinSet::new();
    listening.accept(&state, &mut tasks, &stop)?;
    if is_serve {
        ops::serve_admin(&state, &mut listening, &mut tasks, &stop)?;
    }
    state.close_unneeded().await;
    tasks.spawn(housekeeping(Arc::clone(&state), stop.subscribe()));
    tasks.spawn(keep_remote(Arc::clone(&state)));
    if let (Some(authority), Some(remote)) = (authority, state.remote()) {
        let (vault, state) = (Arc::clone(remote.vault()), Arc::clone(&state));
        let noted = Arc::clone(&state);
        tasks.spawn(authority.keep(vault, refresh, move |ca| state.adopt_ca(ca), move |trouble| noted.note_ca(trouble)));
    }
    state.record("serve.start", &listening.describe().join("; "));
    Ok(Running { state, listening, tasks, stop, drain })
}

/// Keeps the state fresh: changes in the store, idle connections, what was seen of agents and credentials.
async fn housekeeping(state: Arc<State>, mut stop: watch::Receiver<bool>) {
    let mut poll = tokio::time::interval(POLL);
    let mut sweep = tokio::time::interval(SWEEP);
    let mut tidy = tokio::time::interval(TIDY);
    poll.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = poll.tick() => Arc::clone(&state).poll_store().await,
            () = state.woken() => Arc::clone(&state).poll_store().await,
            _ = sweep.tick() => {
                state.proxy().sweep();
                Arc::clone(&state).flush_usage().await;
            }
            _ = tidy.tick() => Arc::clone(&state).tidy().await,
            () = stopped(&mut stop) => return,
        }
    }
}

/// Keeps what comes from Vault up to date, once anything does.
async fn keep_remote(state: Arc<State>) {
    let mut poll = tokio::time::interval(POLL);
    let remote = loop {
        match state.remote() {
            Some(remote) => break Arc::clone(remote),
            None => poll.tick().await,
        };
    };
    let mut ends = remote.ends();
    let proxy = Arc::clone(state.proxy());
    // What a credential opened does not outlive it.
    let judged = async {
        while ends.changed().await.is_ok() {
            proxy.judge_anew();
        }
    };
    tokio::join!(remote.keep(move || state.found_more()), judged);
}

/// Completes when the server stops.
pub(super) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the server is gone.
    let _ = stop.wait_for(|s| *s).await;
}

impl Running {
    /// The address of the plain listener; none where it is a Unix socket.
    #[must_use]
    pub fn proxy_address(&self) -> Option<SocketAddr> {
        match &self.listening.addresses().proxy {
            Bound::Tcp(address) => Some(*address),
            Bound::Unix(_) => None,
        }
    }

    /// What is listened on, in a line for a person.
    #[must_use]
    pub fn describe(&self) -> Vec<String> {
        self.listening.describe()
    }

    /// What commands may ask of it, without a socket: for `run`, whose proxy is its own.
    #[must_use]
    pub fn ops(&self) -> Ops {
        Ops::new(&self.state, &self.listening)
    }

    /// Reads configuration and store anew.
    ///
    /// # Errors
    /// [`ReloadError`]: what was in force stays so.
    pub async fn reload(&self) -> Result<(), ReloadError> {
        Arc::clone(&self.state).reload().await
    }

    /// Stops taking connections, lets what is in flight end, for `[timeouts] drain` at most, then stops.
    pub async fn shutdown(mut self) {
        self.stop.send_replace(true);
        let proxy: Arc<Proxy> = Arc::clone(self.state.proxy());
        proxy.drain();
        let drained = async {
            // Every connection ends by itself once it has nothing in flight.
            while proxy.counts().connections() > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        if tokio::time::timeout(self.drain, drained).await.is_err() {
            tracing::warn!("connections were still busy after {:?}; they are closed now", self.drain);
        }
        self.tasks.shutdown().await;
        if let Some(remote) = self.state.remote() {
            remote.close().await;
        }
        self.state.close_spare().await;
        Arc::clone(&self.state).flush_usage().await;
        self.state.record("serve.stop", "");
        let audit = Arc::clone(self.state.audit());
        // The last records and the checkpoint are on disk when the process ends.
        let _ = tokio::task::spawn_blocking(move || audit.close()).await;
        self.listening.remove_socket();
    }
}
