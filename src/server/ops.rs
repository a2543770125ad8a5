//! What a `serve` does for commands and monitors: `admin.sock` and the admin listener.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use zeroize::Zeroizing;

use super::listen::{Bound, Listening};
use super::state::State;
use super::{ListenError, ReloadError, StartError, stopped};
use crate::admin::http::{AdminHttp, AdminToken, Readiness};
use crate::admin::socket::AdminSocket;
use crate::admin::{AdminOps, ErrorCode, Info, Minted, OpError, Token};
use crate::agent::AgentName;
use crate::clock;
use crate::config::provider;
use crate::session::{self, Claims, MAX_TTL, SessionKind};

/// Answers commands and monitors.
pub struct Ops {
    state: Arc<State>,
    listen: String,
    tls_listen: Option<String>,
}

impl Ops {
    /// For a running proxy.
    #[must_use]
    pub fn new(state: &Arc<State>, listening: &Listening) -> Self {
        let addresses = listening.addresses();
        let listen = match &addresses.proxy {
            Bound::Tcp(address) => format!("http://{address}"),
            Bound::Unix(path) => format!("unix:{}", path.display()),
        };
        Self { state: Arc::clone(state), listen, tls_listen: addresses.tls.map(|a| format!("https://{a}")) }
    }

    /// Holds a `run`'s session as long as this proxy runs: for a proxy of `run`'s own, where no socket holds it.
    pub fn hold(&self, minted: &Minted) {
        self.state.runs().hold(minted.id);
    }

    fn generation(&self, agent: &AgentName) -> Result<u64, OpError> {
        let live = self.state.proxy().live();
        let view = live.snapshot.agent(agent.as_str());
        view.map(|v| v.generation).ok_or_else(|| OpError::new(ErrorCode::NoSuchAgent, format!("there is no agent `{agent}`")))
    }

    /// The placeholders of what an agent was granted.
    fn variables(&self, agent: &AgentName) -> Result<Vec<(String, String)>, OpError> {
        self.generation(agent)?;
        let live = self.state.proxy().live();
        let rules = live.snapshot.agent(agent.as_str()).into_iter().flat_map(|view| view.granted_rules());
        Ok(provider::placeholders(rules.map(|rule| (&rule.name, rule.provider.as_deref()))))
    }
}

impl AdminOps for Ops {
    fn info(&self, agent: Option<&AgentName>) -> Result<Info, OpError> {
        Ok(Info {
            listen: self.listen.clone(),
            tls_listen: self.tls_listen.clone(),
            advertise: self.state.advertise(),
            ca_pem: self.state.ca_pem(),
            home: self.state.home().dir().display().to_string(),
            pid: std::process::id(),
            variables: agent.map(|a| self.variables(a)).transpose()?.unwrap_or_default(),
        })
    }

    fn mint(&self, agent: &AgentName, ttl: Duration, kind: SessionKind) -> Result<Minted, OpError> {
        // An agent that was added a moment ago is to be known.
        let _ = self.state.reload_blocking();
        let generation = self.generation(agent)?;
        if ttl > MAX_TTL || ttl.is_zero() {
            return Err(OpError::new(ErrorCode::BadRequest, "a session lasts from 1 second to 30 days"));
        }
        let expires = clock::unix_seconds() + i64::try_from(ttl.as_secs()).unwrap_or(0);
        let id = u64::from_ne_bytes(crate::random::bytes());
        let claims = Claims { agent: agent.clone(), generation, expires, id, kind };
        let token: Zeroizing<String> = session::mint(self.state.session_key(), &claims);
        Ok(Minted { token: Token::new(token), expires, id })
    }

    fn claims(&self, token: &str) -> Result<Claims, OpError> {
        let bad = |why: String| OpError::new(ErrorCode::BadToken, why);
        let claims = session::verify(self.state.session_key(), token, clock::unix_seconds()).map_err(|e| bad(e.to_string()))?;
        match self.generation(&claims.agent) {
            Ok(generation) if generation == claims.generation => Ok(claims),
            _ => Err(bad("the agent was removed or its token replaced".to_owned())),
        }
    }

    fn reload(&self) -> Result<(), OpError> {
        self.state.reload_blocking().map_err(|e| OpError::new(ErrorCode::Failed, e.to_string()))
    }

    fn release(&self, session: u64) {
        tracing::debug!(session, "a run has ended");
    }
}

impl Readiness for Ops {
    fn problems(&self) -> Vec<String> {
        self.state.problems()
    }

    fn notes(&self) -> Vec<String> {
        self.state.notes()
    }
}

/// Opens `admin.sock` and serves the admin listener.
pub(super) fn serve_admin(
    state: &Arc<State>,
    listening: &mut Listening,
    tasks: &mut JoinSet<()>,
    stop: &watch::Sender<bool>,
) -> Result<(), StartError> {
    let ops = Arc::new(Ops::new(state, listening));
    let socket = AdminSocket::bind(&state.home().admin_sock()).map_err(|e| ListenError::Admin(e.to_string()))?;
    let stopped = |mut stop: watch::Receiver<bool>| async move { stopped(&mut stop).await };
    tasks.spawn(socket.serve(Arc::clone(&ops) as _, Arc::clone(state.runs()), stopped(stop.subscribe())));
    if let Some(listener) = listening.admin.take() {
        let token = state.admin_token_file().map(|f| read_token(&f)).transpose()?;
        let http = AdminHttp { metrics: Arc::clone(state.metrics()), readiness: ops, token };
        let stopped = stopped(stop.subscribe());
        tasks.spawn(async move {
            if let Err(error) = http.serve(listener, stopped).await {
                tracing::error!("the admin listener ended: {error}");
            }
        });
    }
    Ok(())
}

fn read_token(file: &Path) -> Result<AdminToken, StartError> {
    let fail = |why: String| ReloadError::Setting { key: "admin.token_file", why: format!("{}: {why}", file.display()) };
    let content = Zeroizing::new(std::fs::read(file).map_err(|e| fail(format!("it cannot be read: {e}")))?);
    AdminToken::parse(&content).map_err(|e| fail(e.to_string()).into())
}
