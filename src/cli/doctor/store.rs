//! The store, what is in it, the CA, the audit log and the clock.

use std::io;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::Findings;
use crate::cli::context::{Context, Patience, Unlocked, ask_vault, sealed_as_meant};
use crate::cli::error::CommandError;
use crate::cli::output::{counted, time_or_never};
use crate::clock;
use crate::config::Config;
use crate::envelope::SealedBy;
use crate::home::{Home, HomeError};
use crate::server::audit_key;
use crate::telemetry::audit_log::{Checkpoints as _, VerifyReport, verify};
use crate::tls::{OwnKeys, SystemStore, TrustFiles, UpstreamTrust};
use crate::vault::local::{LocalStore, StoreState};

/// So long before the CA's end there is time for a rotation and for every client to learn of it.
const CA_WARNING: SignedDuration = SignedDuration::from_hours(30 * 24);
/// What clocks may differ by.
const SLACK: SignedDuration = SignedDuration::from_mins(5);
/// This program was not written before: an earlier clock is wrong.
const NOT_BEFORE: i64 = 1_762_000_000;

/// Looks into the store, as far as it can be unlocked.
pub(super) fn look(ctx: &Context, home: &Home, config: &Config, found: &mut Findings) -> Option<StoreState> {
    let now = clock::now();
    authority(home, config, now, found);
    past(now, found);
    key_file_place(home, found);
    let unlocked = match open(ctx, home, config) {
        Ok(Some(unlocked)) => unlocked,
        Ok(None) => {
            found.note("store", "it is locked: rows, trust, credentials and the audit log were not looked into", "give a passphrase for that");
            return None;
        }
        Err(e) => {
            found.error("store", &e);
            return None;
        }
    };
    let state = unlocked.state().map_err(|e| found.error("store", &e)).ok()?;
    rows(&unlocked, found);
    own_ca(&unlocked, now, found);
    contents(&state, config, now, found);
    log(&unlocked, found);
    Some(state)
}

/// Looks at the same of a home whose store is Vault.
pub(super) fn look_without(home: &Home, config: &Config, found: &mut Findings) {
    let now = clock::now();
    found.ok("store", "there is none, and none is needed: everything is in Vault");
    if home.ca().exists() {
        authority(home, config, now, found);
    }
    past(now, found);
    trust(config, &shown_keys(home), now, found);
}

/// The keys of the CA that clients are given, where it is Vault's.
fn shown_keys(home: &Home) -> OwnKeys {
    OwnKeys::of_certificates(&std::fs::read(home.ca()).unwrap_or_default())
}

fn past(now: Timestamp, found: &mut Findings) {
    if now.as_second() < NOT_BEFORE {
        found.wrong("clock", format!("the clock says {}", time_or_never(Some(now))), "set the clock: certificates and sessions depend on it");
    }
}

/// The store, unlocked; `None` where there is no passphrase at hand.
fn open(ctx: &Context, home: &Home, config: &Config) -> Result<Option<Unlocked>, CommandError> {
    let path = home.store();
    let sealed = sealed_as_meant(config, &path)?;
    let key = match ctx.sources(config).unlock(&path, &sealed) {
        Err(HomeError::NoSource(_)) => return Ok(None),
        key => match key? {
            Some(key) => key,
            None => ask_vault(config, &path, &sealed, Patience::None)?.0,
        },
    };
    let store = Arc::new(LocalStore::open(&path, &key)?);
    Ok(Some(Unlocked { home: home.clone(), config: config.clone(), store }))
}

/// The certificate that clients trust; it needs no passphrase.
fn authority(home: &Home, config: &Config, now: Timestamp, found: &mut Findings) {
    let file = home.ca();
    let certificates = CertificateDer::pem_file_iter(&file).and_then(Iterator::collect::<Result<Vec<_>, _>>).unwrap_or_default();
    let ends = |der: &CertificateDer<'_>| {
        let validity = X509Certificate::from_der(der).ok()?.1.validity().clone();
        Some((validity.not_before.timestamp(), validity.not_after.timestamp()))
    };
    let Some((_, end)) = certificates.iter().filter_map(ends).max_by_key(|(_, end)| *end) else {
        return found.wrong("ca", format!("{} holds no certificate", file.display()), "start `keyhatch serve`, which writes it anew from the store");
    };
    let begin = certificates.iter().filter_map(ends).map(|(begin, _)| begin).min().unwrap_or(end);
    let (end, begin) = (Timestamp::from_second(end).unwrap_or_default(), Timestamp::from_second(begin).unwrap_or_default());
    let until = time_or_never(Some(end));
    let renewal =
        |own: &str| config.vault.ca.as_ref().map_or_else(|| own.to_owned(), |path| format!("put a new CA where it comes from: {path} in Vault"));
    if now < begin {
        found.wrong("clock", format!("the clock says {}, before the CA begins", time_or_never(Some(now))), "set the clock");
    } else if now >= end {
        found.wrong("ca", format!("the CA ended at {until}: clients refuse every intercepted host"), &renewal("run `keyhatch ca rotate --now`"));
    } else if end.duration_since(now) < CA_WARNING {
        found.warning("ca", format!("the CA ends at {until}"), &renewal("run `keyhatch ca rotate`, so that clients learn the new one in time"));
    } else {
        found.ok("ca", format!("the CA is good until {until}"));
    }
}

/// A copy of the home should open nothing.
fn key_file_place(home: &Home, found: &mut Findings) {
    if let Ok(SealedBy::KeyFile { path }) = LocalStore::sealed_by(&home.store())
        && path.starts_with(home.dir())
    {
        let message = format!("the key file {} lies inside the home: a copy of the home opens the store", path.display());
        found.warning("store", message, "move it elsewhere, and name its place with [store] key_file");
    }
}

fn rows(unlocked: &Unlocked, found: &mut Findings) {
    match unlocked.store.verify() {
        Ok(faults) if faults.is_empty() => {
            found.ok("store", format!("it opens with {}, and every row is as it was sealed", unlocked.store.unlocked_by()))
        }
        Ok(faults) => {
            faults.iter().for_each(|f| found.wrong("store", f.to_string(), "rotate, remove or grant anew what is named, or restore a backup"))
        }
        Err(e) => found.error("store", &e.into()),
    }
}

/// Whether `ca.pem` is the store's, where the store's CA counts.
fn own_ca(unlocked: &Unlocked, now: Timestamp, found: &mut Findings) {
    if unlocked.config.vault.ca.is_some() {
        return trust(&unlocked.config, &shown_keys(&unlocked.home), now, found);
    }
    let ca = match unlocked.ca() {
        Ok(ca) => ca,
        Err(e) => return found.error("ca", &e),
    };
    if std::fs::read_to_string(unlocked.home.ca()).ok().as_deref() != Some(ca.anchors_pem(now).as_str()) {
        found.wrong("ca", format!("{} is not what the store holds", unlocked.home.ca().display()), "start `keyhatch serve`, which writes it anew");
    }
    trust(&unlocked.config, &ca.own_keys(), now, found);
}

/// What origins are verified against.
fn trust(config: &Config, own_keys: &OwnKeys, now: Timestamp, found: &mut Findings) {
    let files = TrustFiles { extra_ca: &config.upstream.extra_ca_files, crl: &config.upstream.crl_files };
    match UpstreamTrust::load(&SystemStore::here(), files, own_keys, now) {
        Ok(trust) => {
            found
                .ok("trust", format!("origins are verified against {} anchors of the system and {} more", trust.system_anchors, trust.extra_anchors));
            trust.warnings.iter().for_each(|w| found.warning("trust", w.clone(), "see to that file"));
        }
        Err(e) => found.wrong("trust", e.to_string(), "see to the files of [upstream] and to the system's ca-certificates"),
    }
}

fn contents(state: &StoreState, config: &Config, now: Timestamp, found: &mut Findings) {
    if state.credentials.is_empty() && config.vault.discover.is_none() {
        found.note("credentials", "there are none yet", "add one: `keyhatch credential add openrouter`");
    }
    for c in &state.credentials {
        let name = &c.entry.name;
        if c.agents.is_empty() {
            found.note("credentials", format!("no agent may use `{name}`"), &format!("run `keyhatch agent grant AGENT {name}`"));
        }
        if !c.entry.terms.enabled {
            found.note("credentials", format!("`{name}` is disabled: its requests are refused"), &format!("run `keyhatch credential enable {name}`"));
        }
        if let Some(status @ (401 | 403)) = c.last_origin_status {
            let mend = format!("check it with `keyhatch credential test {name}`, and rotate it");
            found.warning("credentials", format!("the origin last answered {status} to `{name}`"), &mend);
        }
    }
    let times = state.credentials.iter().flat_map(|c| [c.created_at, c.rotated_at, c.last_used_at]);
    let latest = times.chain(state.agents.iter().map(|a| a.created_at)).flatten().max();
    if latest.is_some_and(|t| t > now + SLACK) {
        let message = format!("the store holds times up to {}, and the clock says {}", time_or_never(latest), time_or_never(Some(now)));
        found.wrong("clock", message, "set the clock: it went back, or was ahead");
    } else {
        found.ok("clock", format!("it says {}", time_or_never(Some(now))));
    }
}

fn log(unlocked: &Unlocked, found: &mut Findings) {
    let checkpoint = match unlocked.checkpoints().load() {
        Ok(checkpoint) => checkpoint,
        Err(e) => return found.wrong("audit", format!("its checkpoint cannot be read: {e}"), "see `keyhatch store verify`"),
    };
    let key = match audit_key(&unlocked.store) {
        Ok(key) => key,
        Err(e) => return found.error("audit", &e.into()),
    };
    judge(verify(&unlocked.home.audit(), &key, checkpoint), found);
}

/// What is to be thought of the audit log.
pub(super) fn judge(report: io::Result<VerifyReport>, found: &mut Findings) {
    match report {
        Ok(report) if report.is_sound() => found.ok("audit", format!("{} records, each as it was written", report.records)),
        Ok(report) => {
            let message = format!("the audit log has {}", counted(report.faults.len() as u64 + report.more_faults, "fault"));
            found.wrong("audit", message, "see `keyhatch audit verify`, and find out who changed it");
        }
        Err(e) => found.wrong("audit", format!("it cannot be read: {e}"), "see to its owner and mode"),
    }
}
