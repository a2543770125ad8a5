//! What an entry that was found in Vault is: a credential's or an agent's terms from its name and its custom metadata.
//!
//! Custom metadata is another right in Vault than writing the value, so it decides where a secret may go. Fields of the value say
//! so only with `discover_fields`: whoever may patch a value then decides it too, of a secret that he may not even read. What a provider denies
//! stays denied whatever an entry says, and no entry may use a pattern that covers a public suffix.

mod guard;
mod keys;
mod merge;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use crate::agent::{AgentName, TokenDigest};
use crate::config::terms::{Kind, TermsSpec, Words};
use crate::credential::{CredentialId, CredentialName, Secret, Terms, VaultReference};
use crate::host::HostPattern;
use crate::policy::{AgentEntry, CredentialEntry};
use crate::telemetry::escape;
use crate::vault::local::terms_digest;

pub use guard::guard;
pub use merge::{Merged, merge};

/// The agent that is granted a credential whose metadata names none.
const DEFAULT_AGENT: &str = "default";
/// Where the secret stands in a value, unless metadata says so: the first of these that there is.
const FIELDS: [&str; 7] = ["api_key", "apiKey", "key", "token", "value", "secret", "password"];
/// The shortest token of an agent, in bytes.
const SHORTEST_TOKEN: usize = 32;
/// How many fields of a value an error names.
const FIELDS_SHOWN: usize = 10;
/// How many characters of each.
const NAME_SHOWN: usize = 40;

/// What discovery calls the parts of terms.
const WORDS: Words = Words {
    kind: "type",
    allow: "allowed_domains",
    methods: "methods",
    header: "header",
    prefix: "prefix",
    allow_plaintext: "allow_plaintext",
    allow_broad: None,
    between: "=",
    two_methods: "methods=GET,POST",
};

/// An entry as it was found.
pub struct Found<'a> {
    /// The folder: mount and path, without a slash at either end.
    pub folder: &'a str,
    /// Its name in the folder.
    pub name: &'a str,
    /// Its custom metadata (`MOUNT/metadata/PATH`, `custom_metadata`); empty with KV v1, which has none.
    pub custom: &'a BTreeMap<String, String>,
    /// The version of its value; KV v1 has none.
    pub version: Option<u64>,
    /// Whether it has no value at present: its version is deleted, or there is none yet. Its terms hold nevertheless.
    pub empty: bool,
    /// The names of all fields of its value.
    pub field_names: &'a [&'a str],
    /// The text of a field, `None` where it is no text. It is asked for keys of metadata only, and only with `discover_fields`.
    pub plain: &'a dyn Fn(&str) -> Option<String>,
}

/// What holds for all entries: from `[vault]`.
#[derive(Debug, Clone, Default)]
pub struct DiscoverRules {
    /// `discover_allow`: what every pattern must lie within; `None` is no cap.
    pub allow: Option<Vec<HostPattern>>,
    /// `discover_fields`: whether fields of the value count where custom metadata says nothing.
    pub fields: bool,
}

/// An entry that is a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discovered {
    /// Its identity, which its path makes; its version, which terms and reference make; its terms.
    pub entry: CredentialEntry,
    /// The agents that it is granted to, each once, whether they exist or not.
    pub agents: Vec<AgentName>,
    /// Where its value is.
    pub reference: VaultReference,
    /// What the operator should know, one line each, with the entry's path.
    pub notes: Vec<String>,
    /// What keeps it from being used.
    pub hold: Hold,
}

/// What keeps an entry from being used, if anything. Requests to the hosts of one that is not are refused, for its agents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// Nothing.
    None,
    /// It is there, but cannot be used as it is, or not beside the store's.
    Withheld,
    /// The same, and nobody knows for whom it is: every agent that has no other credential for its hosts.
    Unread,
}

/// Reads an entry as a credential.
///
/// # Errors
/// What is wrong and the mend, in one line that begins with the entry's path and holds nothing of its value but what
/// `discover_fields` makes terms of.
pub fn credential(found: &Found<'_>, rules: &DiscoverRules) -> Result<Discovered, String> {
    let name = credential_name(found.folder, found.name)?;
    let path = format!("{}/{name}", found.folder);
    let at_fault = |why: String| format!("{path}: {}", escape::human(&why));
    let said = Said { found, fields: rules.fields };
    said.check_keys().map_err(at_fault)?;
    let terms = said.terms(&name, rules).map_err(at_fault)?;
    let agents = said.agents().map_err(at_fault)?;
    let field = said.secret_field().map_err(at_fault)?;
    // Where a value says its own terms, it goes by these and by no others: the next version comes with the next terms.
    let pinned = found.version.filter(|_| rules.fields);
    let place = pinned.map_or_else(|| format!("{path}#{field}"), |version| format!("{path}?version={version}#{field}"));
    let reference = VaultReference::parse(&place).map_err(|e| at_fault(format!("its field cannot be named: {e}")))?;
    if reference.field() != field || reference.version() != pinned {
        return Err(at_fault("its field's name holds `?version=`; rename the field".to_owned()));
    }
    let notes = said.ignored().into_iter().map(at_fault).collect();
    let entry = CredentialEntry { id: id(&path), version: version(&terms, &reference), name, terms, broken: None };
    Ok(Discovered { entry, agents, reference, notes, hold: Hold::None })
}

/// An entry's name as a credential's.
///
/// # Errors
/// What is wrong with it, in one line that begins with the folder's path.
pub fn credential_name(folder: &str, name: &str) -> Result<CredentialName, String> {
    CredentialName::parse(name).map_err(|e| format!("{folder}: {e}"))
}

/// The same as an agent's.
///
/// # Errors
/// As [`credential_name`].
pub fn agent_name(folder: &str, name: &str) -> Result<AgentName, String> {
    AgentName::parse(name).map_err(|e| format!("{folder}: {e}"))
}

/// Reads an entry as an agent: of its fields, `token` (its own token) or `token_sha256` (the digest of that, in hex). Its generation hangs on
/// `version`, so that a token which is put back brings no session token back; KV v1 has none, and there it does.
///
/// # Errors
/// What is wrong and the mend, in one line that begins with the agent's name and holds nothing of the token.
pub fn agent(
    name: &str,
    custom: &BTreeMap<String, String>,
    token: Option<&Secret>,
    token_sha256: Option<&str>,
    version: Option<u64>,
) -> Result<AgentEntry, String> {
    let name = AgentName::parse(name).map_err(|e| e.to_string())?;
    let at_fault = |why: &str| format!("agent `{name}`: {why}");
    for key in custom.keys() {
        if let Some(meant) = keys::meant(key, &keys::AGENT) {
            return Err(at_fault(&format!("its custom metadata has `{}`, which means nothing; write `{meant}`", escape::human(key))));
        }
    }
    match custom.get("enabled").map(|text| keys::flag(text)) {
        None | Some(Some(true)) => {}
        Some(Some(false)) => return Err(at_fault("its custom metadata disables it")),
        Some(None) => return Err(at_fault("its `enabled` is neither true nor false")),
    }
    let of_token = token.map(own_token).transpose().map_err(at_fault)?;
    let given = token_sha256.map(digest).transpose().map_err(at_fault)?;
    let token = match (of_token, given) {
        (Some(token), Some(given)) if token != given => return Err(at_fault("its `token_sha256` is not that of its `token`; leave one of them out")),
        (Some(token), _) | (None, Some(token)) => token,
        (None, None) => return Err(at_fault("it has neither a field `token` nor `token_sha256`; give it one of them")),
    };
    let hash =
        Sha256::new().chain_update(b"keyhatch discovered agent\0").chain_update(name.as_str()).chain_update(b"\0").chain_update(token.as_bytes());
    let hash = version.map_or(hash.clone(), |version| hash.chain_update(version.to_be_bytes()));
    let generation = first_64(&hash.finalize().into()) >> 1;
    Ok(AgentEntry { name, token, generation })
}

fn own_token(token: &Secret) -> Result<TokenDigest, &'static str> {
    let token = token.expose().trim_ascii();
    if token.len() < SHORTEST_TOKEN || !token.iter().all(u8::is_ascii_graphic) {
        return Err("its `token` is not 32 or more visible ASCII characters; make one with `openssl rand -hex 32`");
    }
    Ok(TokenDigest::of(token))
}

fn digest(hex: &str) -> Result<TokenDigest, &'static str> {
    let wrong = "its `token_sha256` is not 64 hex digits; `printf %s TOKEN | sha256sum` makes them";
    let digits: Vec<u8> = hex.trim().chars().map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok())).collect::<Option<_>>().ok_or(wrong)?;
    if digits.len() != 64 {
        return Err(wrong);
    }
    Ok(TokenDigest::from_bytes(std::array::from_fn(|i| digits[2 * i] << 4 | digits[2 * i + 1])))
}

/// The same for a path in every process, and no other path's.
fn id(path: &str) -> CredentialId {
    let hash: [u8; 32] = Sha256::new().chain_update(b"keyhatch discovered credential\0").chain_update(path).finalize().into();
    CredentialId(std::array::from_fn(|i| hash[i]))
}

/// Another one wherever the terms, or which field is the secret, are others.
fn version(terms: &Terms, reference: &VaultReference) -> u64 {
    first_64(&Sha256::new().chain_update(terms_digest(terms)).chain_update(reference.to_string()).finalize().into())
}

fn first_64(hash: &[u8; 32]) -> u64 {
    hash[..8].iter().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

/// What an entry says of itself.
struct Said<'a> {
    found: &'a Found<'a>,
    fields: bool,
}

impl Said<'_> {
    /// Refuses a key that is nearly one that counts.
    fn check_keys(&self) -> Result<(), String> {
        let slip = |key: &str, place: &str| {
            let meant = keys::meant(key, &keys::CREDENTIAL)?;
            Some(format!("its {place} has `{key}`, which means nothing; write `{meant}`"))
        };
        let chosen = self.found.custom.get("field").map(String::as_str);
        let of_value = self.found.field_names.iter().filter(|name| self.fields && Some(**name) != chosen);
        let mut slips =
            (self.found.custom.keys().filter_map(|key| slip(key, "custom metadata"))).chain(of_value.filter_map(|key| slip(key, "value")));
        slips.next().map_or(Ok(()), Err)
    }

    /// What is said under a key: by custom metadata, else by the value where that counts.
    fn text(&self, key: &str) -> Result<Option<String>, String> {
        let text = match self.found.custom.get(key) {
            Some(text) => text.clone(),
            None if self.fields && self.found.field_names.contains(&key) => {
                (self.found.plain)(key).ok_or_else(|| format!("the field `{key}` of its value is no text; write it as one"))?
            }
            None => return Ok(None),
        };
        if text.len() > keys::LONGEST {
            return Err(format!("`{key}` is longer than {} bytes", keys::LONGEST));
        }
        Ok(Some(text))
    }

    /// A word: nothing but white space is a fault.
    fn word(&self, key: &str) -> Result<Option<String>, String> {
        match self.text(key)? {
            Some(text) if text.trim().is_empty() => Err(format!("`{key}` is empty; give it a value or leave it out")),
            text => Ok(text.map(|text| text.trim().to_owned())),
        }
    }

    /// A list that holds something, or nothing where the key is not there.
    fn list(&self, key: &str) -> Result<Vec<String>, String> {
        let Some(list) = self.parts(key)? else { return Ok(Vec::new()) };
        if list.is_empty() {
            return Err(format!("`{key}` is empty; give it a value or leave it out"));
        }
        Ok(list)
    }

    fn parts(&self, key: &str) -> Result<Option<Vec<String>>, String> {
        let malformed = || format!("`{key}` is no list; put commas between its parts, or write a JSON array of strings");
        self.text(key)?.map(|text| keys::list(&text).ok_or_else(malformed)).transpose()
    }

    fn flag(&self, key: &str, default: bool, form: &str) -> Result<bool, String> {
        let Some(text) = self.text(key)? else { return Ok(default) };
        keys::flag(&text).ok_or_else(|| format!("`{key}` is neither {form}"))
    }

    fn terms(&self, name: &CredentialName, rules: &DiscoverRules) -> Result<Terms, String> {
        let kind = match self.word("type")?.as_deref() {
            None => None,
            Some("bearer") => Some(Kind::Bearer),
            Some("basic") => Some(Kind::Basic),
            Some("header") => Some(Kind::Header),
            Some(_) => return Err("`type` is none of bearer, basic and header".to_owned()),
        };
        let spec = TermsSpec {
            kind,
            allow: self.list("allowed_domains")?,
            paths: self.list("paths")?,
            deny_paths: self.list("deny_paths")?,
            methods: self.list("methods")?,
            header: self.word("header")?,
            prefix: self.text("prefix")?,
            scrub: self.flag("scrub", true, "on nor off")?,
            allow_plaintext: self.flag("allow_plaintext", false, "true nor false")?,
            allow_broad: false,
        };
        let mut terms = spec.terms(name).map_err(|e| format!("{}; {}", e.message(&WORDS), e.mend(&WORDS)))?;
        // What the value's fields said is not known while there is none: nothing may go by less.
        terms.enabled = self.flag("enabled", true, "true nor false")? && !(self.found.empty && rules.fields);
        let Some(cap) = &rules.allow else { return Ok(terms) };
        match terms.allowed_domains.iter().find(|pattern| !cap.iter().any(|c| pattern.within(c))) {
            Some(pattern) => Err(format!("pattern `{pattern}` lies within none of discover_allow in [vault]; name other hosts, or add it there")),
            None => Ok(terms),
        }
    }

    fn agents(&self) -> Result<Vec<AgentName>, String> {
        // An empty list is meant: nobody may use it yet.
        let names = self.parts("agents")?.unwrap_or_else(|| vec![DEFAULT_AGENT.to_owned()]);
        let mut out = names.iter().map(|n| AgentName::parse(n).map_err(|e| format!("`agents`: {e}"))).collect::<Result<Vec<_>, _>>()?;
        out.sort();
        out.dedup();
        Ok(out)
    }

    fn secret_field(&self) -> Result<String, String> {
        let there = self.found.field_names;
        if let Some(field) = self.word("field")? {
            // Not repeated: somebody may have put the secret there.
            return if there.contains(&field.as_str()) || self.found.empty {
                Ok(field)
            } else {
                Err(format!("its value has no field of the name that `field` gives{}", self.shown()))
            };
        }
        if let Some(field) = FIELDS.iter().find(|field| there.contains(field)) {
            return Ok((*field).to_owned());
        }
        if self.found.empty {
            // Whoever asks for it is told that it is deleted.
            return Ok(FIELDS[0].to_owned());
        }
        let mut others = there.iter().filter(|name| !self.fields || !keys::CREDENTIAL.contains(name));
        match (others.next(), others.next()) {
            (Some(field), None) => Ok((*field).to_owned()),
            (None, _) => Err("its value has no field that could be the secret; give it one, such as api_key".to_owned()),
            (Some(_), Some(_)) => {
                Err(format!("which field of its value is the secret is not clear{}; set `field` in its custom metadata", self.shown()))
            }
        }
    }

    fn shown(&self) -> String {
        let mut names: Vec<String> = self.found.field_names.iter().map(|n| n.chars().take(NAME_SHOWN).collect()).collect();
        names.sort_unstable();
        let more = if names.len() > FIELDS_SHOWN { ", ..." } else { "" };
        names.truncate(FIELDS_SHOWN);
        format!(" (it has {}{more})", names.join(", "))
    }

    /// Fields of the value that would be rules if they counted: whoever wrote them believes that they hold.
    fn ignored(&self) -> Vec<String> {
        let names = self.found.field_names.iter().filter(|n| !self.fields && keys::CREDENTIAL.contains(n) && !self.found.custom.contains_key(**n));
        names
            .map(|n| format!("the field `{n}` of its value does not count; put it into its custom metadata, or set discover_fields in [vault]"))
            .collect()
    }
}
