//! What the configuration means to the parts that act on it.

use std::sync::Arc;

use super::error::ReloadError;
use super::vault_settings::vault_authority;
use crate::clock;
use crate::config::{Config, ListenAddr};
use crate::policy::{Egress, Roster};
use crate::process;
use crate::proxy::{Ceilings, Settings, Transport};
use crate::tls::{OwnKeys, SystemStore, TrustFiles, UpstreamTrust};
use crate::upstream::resolve::Resolver;
use crate::upstream::{Dialer, DialerSettings, Guard, OffLimits, Pool};

/// How origins are reached: trust anchors, overrides, the address guard. `own_keys` are never anchors, what is `off_limits` never dialled; the
/// configuration's own listeners and its Vault are so too.
///
/// # Errors
/// [`ReloadError`] names the file of anchors that cannot be used.
pub fn dialer(config: &Config, own_keys: &OwnKeys, resolver: &Arc<Resolver>, off_limits: &OffLimits) -> Result<Dialer, ReloadError> {
    let files = TrustFiles { extra_ca: &config.upstream.extra_ca_files, crl: &config.upstream.crl_files };
    let trust = UpstreamTrust::load(&SystemStore::here(), files, own_keys, clock::now()).map_err(|e| ReloadError::trust(config, &e))?;
    trust.warnings.iter().for_each(|w| tracing::warn!("{w}"));
    let settings = DialerSettings {
        overrides: config.resolve.iter().cloned().collect(),
        guard: Guard {
            allow_private: config.egress.allow_private,
            allow_cidrs: config.egress.allow_cidrs.clone(),
            off_limits: closed_by(config, off_limits),
        },
        connect_timeout: config.timeouts.connect,
        tls_timeout: config.timeouts.tls,
        is_spare: process::is_spare,
        tls: trust.client,
    };
    Ok(Dialer::new(settings, Arc::clone(resolver)))
}

/// What is off limits, and what the configuration adds to it: another process of this home may listen where it says.
fn closed_by(config: &Config, off_limits: &OffLimits) -> OffLimits {
    let mut all = off_limits.clone();
    let plain = if let ListenAddr::Tcp(address) = &config.proxy.listen { Some(*address) } else { None };
    let named = plain.into_iter().chain(config.proxy.tls_listen).chain(config.admin.listen);
    all.listeners.extend(named.filter(|address| address.port() != 0 && !off_limits.listeners.contains(address)));
    if let Some(vault) = vault_authority(&config.vault) {
        all.vaults.add(vault);
    }
    all
}

/// A dialer and an empty pool.
pub(super) fn transport(config: &Config, own_keys: &OwnKeys, resolver: &Arc<Resolver>, off_limits: &OffLimits) -> Result<Transport, ReloadError> {
    Ok(Transport { dialer: dialer(config, own_keys, resolver, off_limits)?, pool: Pool::default() })
}

/// `[egress]`, as decisions take it.
#[must_use]
pub fn egress(config: &Config) -> Egress {
    let egress = &config.egress;
    Egress {
        allow_by_default: egress.allow_by_default,
        allow_hosts: egress.allow_hosts.clone(),
        deny_hosts: egress.deny_hosts.clone(),
        ports: egress.ports.clone(),
    }
}

/// What of the configuration the data path looks at.
pub(super) fn settings(config: &Config) -> Settings {
    let (limits, agent) = (&config.limits, &config.limits.per_agent);
    let connections = room_for(limits.connections);
    // A quarter of less than was said is less, too.
    let is_share = connections < limits.connections && agent.connections <= limits.connections.div_ceil(4);
    let share = if is_share { connections.div_ceil(4) } else { connections };
    // Each request and each tunnel may need a descriptor of its own beside its client's.
    let (requests, tunnels) = (room_for(limits.requests), room_for(limits.tunnels));
    Settings {
        auth_required: config.proxy.auth_required,
        request_head: config.timeouts.request_head,
        tls: config.timeouts.tls,
        idle: config.timeouts.idle,
        head_bytes: limits.head_bytes,
        agent_head_bytes: limits.head_bytes.min(agent.head_bytes),
        ceilings: Ceilings::new(
            [connections, requests, tunnels],
            [agent.connections.min(share), agent.requests.min(requests), agent.tunnels.min(tunnels)],
        ),
        deny_without_audit: config.audit.deny_on_failure,
    }
}

/// So many connections, requests or tunnels as there are descriptors for.
fn room_for(connections: usize) -> usize {
    process::room_for_connections().map_or(connections, |room| room.min(connections))
}

/// What the configuration says that an operator should be reminded of at every start.
pub(super) fn warn_of_config(config: &Config, roster: &Roster) {
    if !config.proxy.auth_required {
        tracing::warn!("[proxy] auth is \"off\": every program on this machine is agent `default`");
    }
    let (said, room) = (config.limits.connections, room_for(config.limits.connections));
    if room < said {
        tracing::info!(
            "[limits] connections is {said}, and the limit of open descriptors (ulimit -n) leaves room for {room}: that is how many there may be; raise the limit \
             (LimitNOFILE= of a service) for more"
        );
    }
    for (from, to) in &config.resolve {
        let covering = roster.credentials.iter().find(|c| c.terms.allowed_domains.iter().any(|p| p.matches(from, &[443])));
        if let Some(credential) = covering {
            tracing::warn!("[resolve] sends {from}, which gets credential `{}`, to {to}", credential.name);
        }
    }
}
