//! What stands for an entry that is there but cannot be used: its hosts are guarded, so that no request to them passes without it.

use super::{DiscoverRules, HostPattern, TermsSpec, VaultReference};
use super::{Discovered, FIELDS, Found, Hold, Said, credential_name, id, version};
use crate::config::provider;
use crate::credential::CredentialName;

/// Guards the hosts of an entry that cannot be used: those that it had while it was, those that it names now as far as that can be
/// understood, else those of the provider of its name. `known` says whether what it says of itself could be read at all. `None` where no
/// host is known.
#[must_use]
pub fn guard(found: &Found<'_>, known: bool, rules: &DiscoverRules, last: Option<&Discovered>) -> Option<Discovered> {
    let name = credential_name(found.folder, found.name).ok()?;
    let named = if known { named(found, rules) } else { Vec::new() };
    let now = fresh(found, &name, named, known, last.is_none(), rules);
    let Some(last) = last else { return now };
    let mut out = Discovered { hold: Hold::Withheld, notes: Vec::new(), ..last.clone() };
    out.entry.terms.enabled = false;
    if let Some(now) = now {
        let terms = &mut out.entry.terms;
        terms.allow_plaintext |= now.entry.terms.allow_plaintext;
        terms.allowed_domains.extend(now.entry.terms.allowed_domains);
        dedup(&mut terms.allowed_domains);
        out.agents.extend(now.agents);
        out.agents.sort();
        out.agents.dedup();
    }
    out.entry.version = version(&out.entry.terms, &out.reference);
    Some(out)
}

/// The hosts that it names, as far as that can be understood.
fn named(found: &Found<'_>, rules: &DiscoverRules) -> Vec<HostPattern> {
    let named = Said { found, fields: rules.fields }.list("allowed_domains").unwrap_or_default();
    named.iter().filter_map(|text| HostPattern::parse(text).ok()).filter(|p| p.breadth().is_none()).collect()
}

/// What it says of itself now, or its name says.
fn fresh(
    found: &Found<'_>,
    name: &CredentialName,
    mut hosts: Vec<HostPattern>,
    known: bool,
    by_name: bool,
    rules: &DiscoverRules,
) -> Option<Discovered> {
    let said = Said { found, fields: rules.fields };
    let within_cap = |p: &HostPattern| rules.allow.as_ref().is_none_or(|cap| cap.iter().any(|c| p.within(c)));
    if hosts.is_empty() && by_name {
        hosts = provider::find(name.as_str()).map(|p| p.allowed_domains.clone()).unwrap_or_default();
    }
    // What the operator has shut out is not for an entry to close.
    hosts.retain(within_cap);
    dedup(&mut hosts);
    let spec = TermsSpec { allow: hosts.iter().map(ToString::to_string).collect(), ..TermsSpec::default() };
    let mut terms = (!hosts.is_empty()).then(|| spec.terms(name).ok()).flatten()?;
    terms.enabled = false;
    terms.allow_plaintext = said.flag("allow_plaintext", false, "true nor false").unwrap_or(true);
    let (agents, hold) = match said.agents() {
        Ok(agents) if known => (agents, Hold::Withheld),
        _ => (Vec::new(), Hold::Unread),
    };
    let reference = VaultReference::parse(&format!("{}/{name}#{}", found.folder, FIELDS[0])).ok()?;
    let entry = super::CredentialEntry { id: id(reference.path()), version: version(&terms, &reference), name: name.clone(), terms, broken: None };
    Some(Discovered { entry, agents, reference, notes: Vec::new(), hold })
}

fn dedup(hosts: &mut Vec<HostPattern>) {
    let mut seen = Vec::with_capacity(hosts.len());
    hosts.retain(|host| {
        !seen.contains(host) && {
            seen.push(host.clone());
            true
        }
    });
}
