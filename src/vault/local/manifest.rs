//! The manifest: the sealed record of everything else, and so the authority on what the rows must be.
//!
//! It holds what is known of each credential but the secret, and a digest of every row. A row that is changed,
//! missing, older or added has no entry that fits it.

use crate::agent::AgentName;
use crate::credential::{CredentialId, CredentialName, Source, Terms};
use crate::envelope::{DecodeError, Decoder, Encoder};

use super::terms;

/// SHA-256 of a row's canonical encoding.
pub(super) type Digest = [u8; 32];

#[derive(Clone, PartialEq, Eq)]
pub(super) struct Manifest {
    /// Goes up by one with every change.
    pub(super) counter: u64,
    pub(super) schema: i64,
    pub(super) credentials: Vec<CredentialMeta>,
    pub(super) agents: Vec<AgentMeta>,
    pub(super) grants: Vec<GrantMeta>,
    pub(super) items: Vec<(String, Digest)>,
}

#[derive(Clone, PartialEq, Eq)]
pub(super) struct CredentialMeta {
    pub(super) id: CredentialId,
    pub(super) name: CredentialName,
    pub(super) version: u64,
    pub(super) terms: Terms,
    pub(super) source: Source,
    pub(super) fingerprint: String,
    pub(super) created_at: i64,
    pub(super) rotated_at: Option<i64>,
    pub(super) previous: Option<Previous>,
    pub(super) digest: Digest,
}

/// The value before the last rotation.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Previous {
    /// The version it is sealed as.
    pub(super) version: u64,
    pub(super) fingerprint: String,
    pub(super) replaced_at: i64,
}

#[derive(Clone, PartialEq, Eq)]
pub(super) struct AgentMeta {
    pub(super) name: AgentName,
    pub(super) generation: u64,
    pub(super) created_at: i64,
    pub(super) digest: Digest,
}

#[derive(Clone, PartialEq, Eq)]
pub(super) struct GrantMeta {
    pub(super) agent: AgentName,
    pub(super) credential: CredentialId,
    pub(super) digest: Digest,
}

const LABEL: &str = "keyhatch/manifest";

/// What the sealed manifest is bound to.
pub(super) fn associated(store_id: &[u8; 16]) -> Vec<u8> {
    Encoder::new("keyhatch/manifest-of").bytes(store_id).finish()
}

impl Manifest {
    pub(super) fn empty(schema: i64) -> Self {
        Self { counter: 1, schema, credentials: Vec::new(), agents: Vec::new(), grants: Vec::new(), items: Vec::new() }
    }

    pub(super) fn credential(&self, name: &CredentialName) -> Option<&CredentialMeta> {
        self.credentials.iter().find(|c| c.name == *name)
    }

    pub(super) fn by_id(&self, id: CredentialId) -> Option<&CredentialMeta> {
        self.credentials.iter().find(|c| c.id == id)
    }

    pub(super) fn agent(&self, name: &AgentName) -> Option<&AgentMeta> {
        self.agents.iter().find(|a| a.name == *name)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new(LABEL);
        out.number(self.counter).signed(self.schema);
        out.list(&self.credentials, |e, c| {
            e.bytes(&c.id.0).text(c.name.as_str()).number(c.version);
            terms::encode(e, &c.terms);
            e.text(&terms::encode_source(&c.source)).text(&c.fingerprint).signed(c.created_at);
            e.option(c.rotated_at, |e, at| e.signed(at));
            e.option(c.previous.as_ref(), |e, p| e.number(p.version).text(&p.fingerprint).signed(p.replaced_at));
            e.bytes(&c.digest)
        });
        out.list(&self.agents, |e, a| e.text(a.name.as_str()).number(a.generation).signed(a.created_at).bytes(&a.digest));
        out.list(&self.grants, |e, g| e.text(g.agent.as_str()).bytes(&g.credential.0).bytes(&g.digest));
        out.list(&self.items, |e, (name, digest)| e.text(name).bytes(digest));
        out.finish()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut from = Decoder::new(bytes, LABEL)?;
        let out = Self {
            counter: from.number()?,
            schema: from.signed()?,
            credentials: from.list(decode_credential)?,
            agents: from.list(|d| Ok(AgentMeta { name: agent_name(d)?, generation: d.number()?, created_at: d.signed()?, digest: d.array()? }))?,
            grants: from.list(|d| Ok(GrantMeta { agent: agent_name(d)?, credential: CredentialId(d.array()?), digest: d.array()? }))?,
            items: from.list(|d| Ok((d.text()?.to_owned(), d.array()?)))?,
        };
        from.finish()?;
        Ok(out)
    }
}

fn agent_name(from: &mut Decoder<'_>) -> Result<AgentName, DecodeError> {
    AgentName::parse(from.text()?).map_err(|_| DecodeError)
}

fn decode_credential(from: &mut Decoder<'_>) -> Result<CredentialMeta, DecodeError> {
    Ok(CredentialMeta {
        id: CredentialId(from.array()?),
        name: CredentialName::parse(from.text()?).map_err(|_| DecodeError)?,
        version: from.number()?,
        terms: terms::decode(from)?,
        source: terms::decode_source(from.text()?)?,
        fingerprint: from.text()?.to_owned(),
        created_at: from.signed()?,
        rotated_at: from.option(Decoder::signed)?,
        previous: from.option(|d| Ok(Previous { version: d.number()?, fingerprint: d.text()?.to_owned(), replaced_at: d.signed()? }))?,
        digest: from.array()?,
    })
}
