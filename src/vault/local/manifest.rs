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
    /// Of a secret that the store holds; a reference into Vault has none.
    pub(super) fingerprint: Option<String>,
    pub(super) created_at: i64,
    pub(super) rotated_at: Option<i64>,
    pub(super) previous: Option<Previous>,
    pub(super) digest: Digest,
}

/// The value before the last rotation: a secret or a reference, whatever the present one is.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Previous {
    /// The version it is sealed as.
    pub(super) version: u64,
    /// And the source.
    pub(super) source: Source,
    pub(super) fingerprint: Option<String>,
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
            encode_origin(e, &c.source, c.fingerprint.as_deref()).signed(c.created_at);
            e.option(c.rotated_at, |e, at| e.signed(at));
            e.option(c.previous.as_ref(), |e, p| encode_origin(e.number(p.version), &p.source, p.fingerprint.as_deref()).signed(p.replaced_at));
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

/// What is decoded, encoded again: for the fuzz targets, which are no part of the crate.
#[must_use]
pub fn recoded(bytes: &[u8]) -> Option<Vec<u8>> {
    Manifest::decode(bytes).ok().map(|manifest| manifest.encode())
}

fn agent_name(from: &mut Decoder<'_>) -> Result<AgentName, DecodeError> {
    AgentName::parse(from.text()?).map_err(|_| DecodeError)
}

fn encode_origin<'e>(out: &'e mut Encoder, source: &Source, fingerprint: Option<&str>) -> &'e mut Encoder {
    out.text(&terms::encode_source(source)).option(fingerprint, |e, text| e.text(text))
}

/// A source, and the fingerprint that a secret of the store has and a reference has not.
fn decode_origin(from: &mut Decoder<'_>) -> Result<(Source, Option<String>), DecodeError> {
    let source = terms::decode_source(from.text()?)?;
    let fingerprint = from.option(|d| d.text().map(str::to_owned))?;
    if fingerprint.is_some() == (source == Source::Local) { Ok((source, fingerprint)) } else { Err(DecodeError) }
}

fn decode_previous(from: &mut Decoder<'_>) -> Result<Previous, DecodeError> {
    let version = from.number()?;
    let (source, fingerprint) = decode_origin(from)?;
    Ok(Previous { version, source, fingerprint, replaced_at: from.signed()? })
}

fn decode_credential(from: &mut Decoder<'_>) -> Result<CredentialMeta, DecodeError> {
    let id = CredentialId(from.array()?);
    let name = CredentialName::parse(from.text()?).map_err(|_| DecodeError)?;
    let (version, terms) = (from.number()?, terms::decode(from)?);
    let (source, fingerprint) = decode_origin(from)?;
    Ok(CredentialMeta {
        id,
        name,
        version,
        terms,
        source,
        fingerprint,
        created_at: from.signed()?,
        rotated_at: from.option(Decoder::signed)?,
        previous: from.option(decode_previous)?,
        digest: from.array()?,
    })
}
