//! A running `serve`, its ports, and what the configuration points elsewhere.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use zeroize::Zeroizing;

use super::Findings;
use crate::admin::client::ClientError;
use crate::admin::http::AdminToken;
use crate::cli::context::Context;
use crate::config::{Config, ConfigError, ListenAddr};
use crate::home::{Home, ServeLock};
use crate::policy::Roster;

/// Looks at what the network would see of the proxy.
pub(super) fn look(ctx: &Context, home: &Home, config: &Config, roster: Option<&Roster>, found: &mut Findings) {
    serve(ctx, home, config, found);
    if !config.proxy.auth_required {
        found.warning(
            "auth",
            "[proxy] auth is \"off\": every program of this machine is agent `default`",
            "set auth = \"required\", or remove the key",
        );
    }
    if config.egress.allow_private {
        let message = "[egress] private_addresses is \"allow\": agents reach this machine's own network and its metadata service";
        found.warning("egress", message, "remove the key, and name what is needed in allow_cidrs");
    }
    files(&ctx.config_file(home).0, config, found);
    resolve(config, roster, found);
}

/// The files that the listeners need. Those that origins are verified by are looked at with the store.
fn files(file: &Path, config: &Config, found: &mut Findings) {
    let (cert, key) = config.proxy.tls_cert.as_ref().map_or((None, None), |(cert, key)| (Some(cert), Some(key)));
    for (name, path) in [("proxy.tls_cert", cert), ("proxy.tls_key", key), ("admin.token_file", config.admin.token_file.as_ref())] {
        let Some(path) = path else { continue };
        let why = match std::fs::read(path).map(Zeroizing::new) {
            Err(e) => format!("{} cannot be read: {e}", path.display()),
            Ok(content) if name == "admin.token_file" => match AdminToken::parse(&content) {
                Err(e) => format!("{}: {e}", path.display()),
                Ok(_) => continue,
            },
            Ok(_) => continue,
        };
        found.wrong("configuration", ConfigError::in_use(file, name, why).to_string(), "see to that file: serve does not start without it");
    }
}

fn serve(ctx: &Context, home: &Home, config: &Config, found: &mut Findings) {
    let answer = ctx.admin(home).and_then(|mut client| client.info(None));
    match (answer, ServeLock::holder(home)) {
        (Ok(info), _) => found.ok("serve", format!("it runs (pid {}) and listens on {}", info.pid, info.listen)),
        (Err(ClientError::NotRunning(_)), None) => {
            found.note("serve", "no serve runs for this home: `env` needs one, `run` does without", "start it with `keyhatch serve`");
            ports(config, found);
        }
        (Err(e), Some(pid)) => found.wrong("serve", format!("it runs (pid {pid}) and cannot be asked: {e}"), "look at its log, and restart it"),
        (Err(e), None) => found.wrong("serve", e.to_string(), "run the command as the user whose serve it is"),
    }
}

/// Whether the ports are free that a `serve` would take.
fn ports(config: &Config, found: &mut Findings) {
    let plain = match &config.proxy.listen {
        ListenAddr::Tcp(address) => Some(*address),
        ListenAddr::Unix(_) => None,
    };
    let all = [("[proxy] listen", plain), ("[proxy] tls_listen", config.proxy.tls_listen), ("[admin] listen", config.admin.listen)];
    for (key, address) in all.into_iter().filter_map(|(key, address)| Some((key, address?))) {
        if let Err(e) = free(address) {
            let why = if e.kind() == io::ErrorKind::AddrInUse { "another program listens there".to_owned() } else { e.to_string() };
            found.wrong(
                "ports",
                format!("serve cannot listen on {address}: {why}"),
                &format!("stop that program, or change {key} in the configuration"),
            );
        }
    }
}

fn free(address: SocketAddr) -> io::Result<()> {
    TcpListener::bind(address).map(drop)
}

/// `[resolve]` decides where a credential's requests go.
fn resolve(config: &Config, roster: Option<&Roster>, found: &mut Findings) {
    for (from, to) in &config.resolve {
        let mend = "remove the entry from [resolve], unless it is meant so";
        match roster {
            None => found.note("resolve", format!("[resolve] sends {from} to {to}"), mend),
            Some(roster) => {
                let covered = roster.credentials.iter().filter(|c| c.terms.allowed_domains.iter().any(|p| p.matches(from, &[443])));
                for c in covered {
                    found.warning("resolve", format!("[resolve] sends {from}, which gets credential `{}`, to {to}", c.name), mend);
                }
            }
        }
    }
}
