//! The credentials whose values are in Vault, each as a request would get it.

use super::{CHECK, Rest, wrong};
use crate::cli::doctor::{Findings, Level};
use crate::cli::vault::There;
use crate::credential::{CredentialName, Material, VaultReference};
use crate::server::Picture;
use crate::vault::hashicorp::{FieldError, MountKind, Reading, VaultError, VaultErrorKind, Wanted, unfit};

/// Reads each value once.
pub(super) fn look(rest: &Rest<'_>, there: &There, picture: &Picture, found: &mut Findings) {
    let mut wanted = picture.wanted();
    wanted.sort_by(|a, b| a.name.cmp(&b.name));
    for wanted in wanted {
        let is_discovered = picture.discovered.contains_key(&wanted.id);
        match there.read(&wanted.reference) {
            Ok(reading) => {
                if judge(&wanted, is_discovered, reading, found) {
                    currency(rest, there, &wanted, found);
                }
            }
            Err(e) if e.kind.is_outage() => {
                // It would be the same for all that follow.
                return wrong(&e, found);
            }
            Err(e) => refused(there, &wanted, &e, found),
        }
    }
}

/// What makes another place or another field of a credential.
fn rotate(name: &CredentialName, place: &str) -> String {
    format!("`keyhatch credential rotate {name} --vault {place}`")
}

/// Whether the field is there and can be sent.
fn judge(wanted: &Wanted, is_discovered: bool, reading: Reading, found: &mut Findings) -> bool {
    let Wanted { name, reference, presentation, .. } = wanted;
    let path = reference.path();
    let read = reading.fields.secret(reference);
    let lacks = matches!(read, Err(FieldError::Missing(_)));
    let mend = match (lacks, is_discovered) {
        (true, false) => format!("write the field, or name another one: {}", rotate(name, &format!("{path}#FIELD"))),
        (true, true) => format!("write the field, or name another one in `field` of the custom metadata of {path}"),
        (false, _) => format!("write the value anew: `vault kv put {path} {}=...`", reference.field()),
    };
    let secret = match read {
        Ok(secret) => secret,
        Err(why) => {
            found.wrong(CHECK, format!("`{name}`: {why}"), &mend);
            return false;
        }
    };
    let is_weak = secret.is_weak();
    if let Err(e) = Material::new(presentation, secret) {
        found.wrong(CHECK, format!("`{name}`: {}", unfit(reference, e)), &mend);
        return false;
    }
    let version = reading.version.map(|v| format!(" (version {v})")).unwrap_or_default();
    let leased = reading.lease.map(|lease| format!(", leased for {}", super::span(lease.duration))).unwrap_or_default();
    found.ok(CHECK, format!("`{name}`: its value at {reference} can be read{version}{leased}"));
    if is_weak {
        found.note(CHECK, format!("`{name}`: its value is short, so it is not scrubbed from the bodies of responses"), "give it a longer one");
    }
    true
}

/// Whether a newer version would be seen, and at which cost.
fn currency(rest: &Rest<'_>, there: &There, wanted: &Wanted, found: &mut Findings) {
    let Wanted { name, reference, .. } = wanted;
    let path = reference.path();
    if !matches!(there.wait(there.vault().mount_of(path)), Ok(mount) if mount.kind == MountKind::KvV2) {
        return;
    }
    let metadata = there.wait(there.vault().metadata(path));
    match (reference.version(), metadata) {
        (Some(pinned), metadata) => {
            let current = metadata.ok().map(|m| format!(", and the current one is {}", m.version)).unwrap_or_default();
            let message = format!("`{name}`: version {pinned} of {path} is pinned{current}");
            let place = format!("{path}#{}", reference.field());
            found.note(CHECK, message, &format!("to follow what is written there: {}", rotate(name, &place)));
        }
        (None, Err(e)) if e.kind == VaultErrorKind::Denied => {
            let every = rest.config.vault.refresh.as_secs();
            found.add(CHECK, Level::Note, format!("`{name}`: its value itself is read every {every} s, for its metadata cannot be: {e}"), None);
        }
        _ => {}
    }
}

/// Why there is no value.
fn refused(there: &There, wanted: &Wanted, e: &VaultError, found: &mut Findings) {
    let Wanted { name, reference, .. } = wanted;
    if let Some(short) = api_form(there, reference) {
        let message = format!("`{name}`: {} is a path as the API of KV version 2 has it: {e}", reference.path());
        let place = format!("{short}#{}", reference.field());
        return found.wrong(CHECK, message, &format!("leave the `data/` out, as in `vault kv get {short}`: {}", rotate(name, &place)));
    }
    found.add(CHECK, Level::Wrong, format!("`{name}`: {e}"), crate::cli::vault::mend(e));
}

/// The path as `vault kv get` takes it, where it has the form of the API: with `data/` or `metadata/` behind the mount.
fn api_form(there: &There, reference: &VaultReference) -> Option<String> {
    let path = reference.path();
    let mount = match there.wait(there.vault().mount_of(path)) {
        Ok(mount) if mount.kind == MountKind::KvV2 => mount.path,
        Ok(_) => return None,
        // It is not shown; mostly it is the first part.
        Err(_) => format!("{}/", path.split('/').next()?),
    };
    let below = path.strip_prefix(&mount)?;
    let rest = below.strip_prefix("data/").or_else(|| below.strip_prefix("metadata/"))?;
    Some(format!("{mount}{rest}"))
}
