//! Where an agent finds the proxy, and the token by which it proves itself: as a running `serve` tells.

use std::time::Duration;

use zeroize::Zeroizing;

use super::agent_env::AgentEnvironment;
use super::ca;
use super::context::Context;
use super::error::CommandError;
use crate::admin::client::{AdminClient, ClientError, HeldSession};
use crate::admin::{Info, Token};
use crate::agent::AgentName;
use crate::home::Home;
use crate::session::SessionKind;

/// A session that `serve` has minted.
pub(super) struct ServeSession {
    client: AdminClient,
    token: Token,
    info: Info,
}

impl ServeSession {
    /// Asks the `serve` of this home; `None` where none runs.
    pub(super) fn ask(ctx: &Context, home: &Home, agent: &AgentName, ttl: Duration, kind: SessionKind) -> Result<Option<Self>, CommandError> {
        let mut client = match ctx.admin(home) {
            Err(ClientError::NotRunning(_)) => return Ok(None),
            other => other?,
        };
        let (token, _) = client.session(agent.as_str(), ttl, kind)?;
        let info = client.info(Some(agent.as_str()))?;
        Ok(Some(Self { client, token, info }))
    }

    /// The environment for a command on this machine.
    pub(super) fn environment(&self, home: &Home, agent: AgentName, proxy_url: String) -> Result<AgentEnvironment, CommandError> {
        Ok(AgentEnvironment {
            proxy_url,
            agent,
            token: Zeroizing::new(self.token.expose().to_owned()),
            bundle: utf8(&ca::write_bundle(home, &self.info.ca_pem)?)?,
            ca: utf8(&home.ca())?,
            placeholders: self.info.variables.clone(),
        })
    }

    /// The address for a command on this machine: where `serve` listens.
    pub(super) fn local_url(&self) -> Result<String, CommandError> {
        let Info { listen, tls_listen, advertise, .. } = &self.info;
        let urls = [Some(listen), tls_listen.as_ref(), advertise.as_ref()];
        urls.into_iter().flatten().find(|url| is_url(url)).map(|url| reachable(url)).ok_or_else(no_url)
    }

    /// The address that agents are to be told.
    pub(super) fn told_url(&self) -> Result<String, CommandError> {
        match &self.info.advertise {
            Some(url) => Ok(url.clone()),
            None => self.local_url(),
        }
    }

    /// Keeps the session until the value is dropped.
    pub(super) fn hold(self) -> Result<HeldSession, CommandError> {
        HeldSession::keep(self.client, self.token).map_err(CommandError::doing("the session cannot be held"))
    }
}

fn is_url(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://")
}

/// A listener on every address is reached on loopback.
fn reachable(url: &str) -> String {
    url.replacen("://0.0.0.0:", "://127.0.0.1:", 1).replacen("://[::]:", "://[::1]:", 1)
}

fn no_url() -> CommandError {
    CommandError::failed("serve listens on a Unix socket alone, which no proxy URL can name")
        .hint("set [proxy] advertise or tls_listen, or give --proxy-url to `keyhatch env`")
}

/// A path as it stands in a variable.
pub(super) fn utf8(path: &std::path::Path) -> Result<String, CommandError> {
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| {
        CommandError::failed(format!("{} is not UTF-8, so no variable can name it", path.display())).hint("give another home with --home")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_can_be_reached() {
        assert_eq!(reachable("http://0.0.0.0:8877"), "http://127.0.0.1:8877");
        assert_eq!(reachable("https://[::]:8443"), "https://[::1]:8443");
        assert_eq!(reachable("http://10.0.0.0:8877"), "http://10.0.0.0:8877");
        assert!(is_url("http://127.0.0.1:1") && !is_url("unix:/run/k.sock"));
    }
}
