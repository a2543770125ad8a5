//! HashiCorp Vault, where the set-up uses it: the way there, the token, and what is to be had with it.

mod values;

use std::path::Path;
use std::time::Duration;

use super::{Findings, Level};
use crate::cli::output::{counted, time_or_never};
use crate::cli::vault::{There, discovers, mend};
use crate::clock;
use crate::config::{Config, VaultAuth, VaultConfig};
use crate::credential::Source;
use crate::home::Home;
use crate::server::discovered::Hold;
use crate::server::{Picture, Remote, SigningKeys, is_for_the_proxy_alone, shared_ca, signs_ca, speaks_of_vault};
use crate::telemetry::audit_log::verify;
use crate::vault::hashicorp::{MountKind, TokenInfo, VaultError, VaultErrorKind};
use crate::vault::local::StoreState;

const CHECK: &str = "vault";

/// What there is beside Vault.
pub(super) struct Rest<'a> {
    pub(super) home: &'a Home,
    pub(super) config: &'a Config,
    /// The configuration file, for messages.
    pub(super) file: &'a Path,
    /// Whether everything is in Vault, so that there is no store.
    pub(super) without_store: bool,
}

/// Looks at Vault, and puts together everything there is, as far as it can be seen.
pub(super) fn look(rest: &Rest<'_>, state: Option<StoreState>, found: &mut Findings) -> Option<Picture> {
    let kept_there = state.iter().flat_map(|s| &s.credentials).any(|c| matches!(c.source, Source::Vault(_)));
    let is_needed = kept_there || rest.config.vault != VaultConfig::default();
    let mut own = Findings::default();
    let there = if is_needed || speaks_of_vault(&rest.config.vault) { reach(rest, &mut own) } else { None };
    let picture = match &there {
        Some(there) => everything(rest, there, state, &mut own),
        None => state.map(|state| Picture::new(Some(state), None)),
    };
    if !is_needed {
        // A variable for Vault's own tools is no fault of this set-up.
        own.0.iter_mut().filter(|f| f.level != Level::Ok).for_each(|f| f.level = Level::Note);
    }
    found.0.append(&mut own.0);
    picture
}

fn wrong(e: &VaultError, found: &mut Findings) {
    found.add(CHECK, Level::Wrong, e.to_string(), mend(e));
}

/// The way there; `None` where nothing further can be asked.
fn reach(rest: &Rest<'_>, found: &mut Findings) -> Option<There> {
    if is_for_the_proxy_alone(&rest.config.vault) {
        let message = "not looked into: `wrapped` opens once, and that is left to the proxy of `serve` or `run`".to_owned();
        found.note(CHECK, message, "set VAULT_TOKEN for this command, to have Vault looked into with it");
        return None;
    }
    let there = There::new(&rest.config.vault, rest.file).map_err(|e| found.error(CHECK, &e)).ok()?;
    there.vault().warnings().into_iter().for_each(|w| found.add(CHECK, Level::Warning, w, None));
    let at = there.vault().address();
    match there.wait(there.vault().health()) {
        Ok(health) if !health.initialized => {
            found.wrong(CHECK, format!("Vault at {at} was never initialised"), "run `vault operator init`, then `vault operator unseal`");
            return None;
        }
        Ok(health) if health.sealed => {
            found.wrong(CHECK, format!("Vault at {at} is sealed: it gives nothing out"), "run `vault operator unseal`");
            return None;
        }
        Ok(health) => found.ok(CHECK, format!("{at} serves (version {})", health.version)),
        Err(e) => {
            wrong(&e, found);
            return None;
        }
    }
    match there.wait(there.vault().token_info()) {
        Ok(info) => token(&info, &rest.config.vault, found),
        Err(e) if e.kind == VaultErrorKind::Denied => {
            found.add(CHECK, Level::Note, format!("the token may not look itself up, so it is not renewed: {e}"), None);
        }
        Err(e) => {
            wrong(&e, found);
            return None;
        }
    }
    Some(there)
}

fn token(info: &TokenInfo, config: &VaultConfig, found: &mut Findings) {
    let who = format!("logged in as `{}` with the policies {}", info.display_name, info.policies.join(", "));
    if info.policies.iter().any(|p| p == "root") {
        found.note(CHECK, format!("{who}: this token may do anything"), "give one with as few rights as deploy/vault shows");
        return;
    }
    let logs_in = matches!(config.auth, Some(VaultAuth::AppRole { .. } | VaultAuth::Jwt { .. }));
    match info.ttl {
        None => found.ok(CHECK, format!("{who}; the token has no end")),
        Some(ttl) if info.renewable => found.ok(CHECK, format!("{who}; the token lives {} and is renewed", span(ttl))),
        Some(ttl) if logs_in => found.ok(CHECK, format!("{who}; the token lives {}, and another log-in follows it", span(ttl))),
        Some(ttl) => found.warning(
            CHECK,
            format!("{who}; the token ends in {} and cannot be renewed", span(ttl)),
            "give one that can (`vault token create -period=24h`), or let Keyhatch log in by itself: `auth` in [vault]",
        ),
    }
}

/// A time to live, in its greatest unit.
fn span(time: Duration) -> String {
    match time.as_secs() {
        s if s < 120 => format!("{s} s"),
        s if s < 2 * 3600 => format!("{} min", s / 60),
        s if s < 48 * 3600 => format!("{} h", s / 3600),
        s => format!("{} days", s / 86_400),
    }
}

fn everything(rest: &Rest<'_>, there: &There, state: Option<StoreState>, found: &mut Findings) -> Option<Picture> {
    let config = &rest.config.vault;
    let remote = if discovers(config) { there.look(config).map_err(|e| found.error(CHECK, &e)).ok() } else { None };
    // Where the store is locked, its agents are not known, and grants to them are no fault.
    let is_whole = rest.without_store || state.is_some();
    let picture = (state.is_some() || remote.is_some()).then(|| Picture::new(state, remote.as_deref()));
    if let (Some(remote), Some(picture)) = (&remote, &picture) {
        discovered(config, remote, picture, is_whole, found);
    }
    if let Some(picture) = &picture {
        values::look(rest, there, picture, found);
    }
    shared(rest, there, found);
    picture
}

fn discovered(config: &VaultConfig, remote: &Remote, picture: &Picture, is_whole: bool, found: &mut Findings) {
    let there = remote.found();
    let used = there.credentials.iter().filter(|d| d.hold == Hold::None).count();
    let folders = [(&config.discover, used, "credential"), (&config.discover_agents, there.agents.len(), "agent")];
    for (folder, count, what) in folders.into_iter().filter_map(|(folder, count, what)| Some((folder.as_ref()?, count, what))) {
        let message = format!("{folder} can be listed: {} discovered", counted(count as u64, what));
        if count == 0 {
            found.note(CHECK, message, &format!("put one there: `vault kv put {folder}/NAME ...`"));
        } else {
            found.ok(CHECK, message);
        }
    }
    let mut remarks: Vec<String> =
        if is_whole { picture.remarks().map(str::to_owned).collect() } else { there.problems.into_iter().chain(there.notes).collect() };
    remarks.sort_unstable();
    remarks.into_iter().for_each(|remark| found.add(CHECK, Level::Warning, remark, None));
    if let Some(folder) = config.discover.as_ref().filter(|_| config.discover_allow.is_none()) {
        let message = format!("whoever may write custom metadata below {folder} decides which hosts get the secrets there");
        found.note(CHECK, message, "name the hosts that discovery may bring with discover_allow in [vault]");
    }
}

/// What replicas share: the CA and the keys.
fn shared(rest: &Rest<'_>, there: &There, found: &mut Findings) {
    let (vault, now) = (there.vault(), clock::now());
    match rest.config.vault.ca.as_deref() {
        Some(path) if signs_ca(path) => engine(there, path, found),
        Some(path) => match there.wait(shared_ca(vault, path, now)) {
            Ok(Some(ca)) if ca.expires_at() <= now => {
                found.wrong(CHECK, format!("the CA at {path} ended at {}", time_or_never(Some(ca.expires_at()))), "put another one there");
            }
            Ok(Some(ca)) => found.ok(CHECK, format!("the CA at {path} can be read, and is good until {}", time_or_never(Some(ca.expires_at())))),
            Ok(None) => not_yet("CA", path, found),
            Err(e) => found.error(CHECK, &there.failed(e)),
        },
        None => {}
    }
    let Some(path) = rest.config.vault.signing_key.as_deref() else { return };
    match there.wait(SigningKeys::read(vault, path)) {
        Ok(Some(keys)) => {
            found.ok(CHECK, format!("the signing key at {path} can be read"));
            if rest.without_store && rest.home.audit().exists() {
                super::store::judge(verify(&rest.home.audit(), &keys.audit_key(), None), found);
            }
        }
        Ok(None) => not_yet("signing key", path, found),
        Err(e) => found.error(CHECK, &there.failed(e)),
    }
}

fn not_yet(what: &str, path: &str, found: &mut Findings) {
    let mend = format!("start `keyhatch serve`, which makes it where the policy allows \"create\" on {path}");
    found.note(CHECK, format!("there is no {what} at {path} yet"), &mend);
}

/// An engine that signs is not asked to: every answer is another CA.
fn engine(there: &There, path: &str, found: &mut Findings) {
    match there.wait(there.vault().mount_of(path)) {
        Ok(mount) if mount.kind == MountKind::Other("pki".to_owned()) => {
            found.ok(CHECK, format!("{path} is asked at each start to sign a CA; that was not tried out"));
        }
        Ok(mount) => {
            let message = format!("{} is no PKI engine, so {path} signs no CA", mount.path);
            found.wrong(CHECK, message, "point `ca` in [vault] to MOUNT/root/sign-intermediate of one, or to an entry");
        }
        Err(e) if e.kind == VaultErrorKind::Denied => {
            let line = format!("path \"{path}\" {{ capabilities = [\"update\"] }}");
            found.wrong(CHECK, format!("the token has no right at {path}, or nothing is mounted there"), &format!("its policy needs  {line}"));
        }
        Err(e) => wrong(&e, found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans() {
        for (seconds, text) in [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (172_800, "2 days")] {
            assert_eq!(span(Duration::from_secs(seconds)), text);
        }
    }
}
