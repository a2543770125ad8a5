//! The keys of an unlocked store, and how each kind of row is sealed, authenticated and laid out.

use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::manifest::{CredentialMeta, Digest, Manifest, associated};
use super::stored::Stored;
use super::terms;
use crate::agent::{AgentName, TokenDigest};
use crate::credential::{CredentialId, Secret, Source, Terms};
use crate::envelope::{Encoder, Header, Key, Purpose, SealError, open, seal};
use crate::store::{Field, Row, Table};

/// Rows of `meta`.
pub(super) const KEY_RECORD: &str = "key-record";
pub(super) const MANIFEST: &str = "manifest";
pub(super) const CHECKPOINT: &str = "audit-checkpoint";
pub(super) const ITEM_PREFIX: &str = "item/";

/// The keys of an unlocked store.
pub(super) struct Keys {
    pub(super) header: Header,
    /// The header as it is stored: another one means that the store was sealed anew.
    pub(super) record: Vec<u8>,
    dek: Key,
    row: Key,
}

/// Which of a credential's two values.
#[derive(Clone, Copy)]
pub(super) enum Slot {
    Current,
    Previous,
}

/// What a usage row is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Subject {
    Credential(CredentialId),
    Agent(AgentName),
}

/// When something was last used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) at: Option<i64>,
    pub(super) status: Option<u16>,
}

/// Why a sealed value is not what the manifest says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum ValueError {
    /// It does not open.
    #[error(transparent)]
    Sealed(#[from] SealError),
    /// It opens, and is not the reference that the manifest names. Its text is not shown: it may be a secret.
    #[error("what is sealed is not the reference into Vault that the store's record names")]
    OtherReference,
}

impl Subject {
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Credential(_) => "credential",
            Self::Agent(_) => "agent",
        }
    }

    pub(super) fn key(&self) -> &[u8] {
        match self {
            Self::Credential(id) => &id.0,
            Self::Agent(name) => name.as_str().as_bytes(),
        }
    }
}

impl Keys {
    pub(super) fn new(header: Header, dek: Key) -> Self {
        let row = dek.subkey(Purpose::RowMac);
        Self { record: header.encode(), header, dek, row }
    }

    pub(super) fn session_key(&self) -> Key {
        self.dek.subkey(Purpose::SessionToken)
    }

    fn seal(&self, associated: &[u8], plain: &[u8]) -> Vec<u8> {
        seal(&self.dek, crate::random::bytes(), associated, plain)
    }

    /// Seals a value of a credential: a reference as its text, in the place of the secret. The source is authenticated
    /// with it, so that neither opens as the other.
    pub(super) fn seal_value(&self, meta: &CredentialMeta, slot: Slot, value: &Stored) -> Vec<u8> {
        let associated = associated_of(meta, slot);
        match value {
            Stored::Secret(secret) => self.seal(&associated, secret.expose()),
            Stored::Reference(reference) => self.seal(&associated, reference.to_string().as_bytes()),
        }
    }

    /// Opens a value of a credential. What it is, `meta` says; a sealed reference must be the one that stands there.
    pub(super) fn open_value(&self, meta: &CredentialMeta, slot: Slot, sealed: &[u8]) -> Result<Stored, ValueError> {
        let plain = open(&self.dek, &associated_of(meta, slot), sealed)?;
        match origin(meta, slot).1 {
            Source::Local => Ok(Stored::Secret(Secret::from_opened(&plain))),
            Source::Vault(reference) if reference.to_string().as_bytes() == plain.as_slice() => Ok(Stored::Reference(reference.clone())),
            Source::Vault(_) => Err(ValueError::OtherReference),
        }
    }

    /// Opens the current secret of a credential whose source is the store, from what the roster knows.
    pub(super) fn open_current(&self, id: CredentialId, version: u64, terms: &Terms, sealed: &[u8]) -> Result<Secret, SealError> {
        open(&self.dek, &associated_with(id, version, &Source::Local, terms, Slot::Current), sealed).map(|plain| Secret::from_opened(&plain))
    }

    pub(super) fn seal_manifest(&self, manifest: &Manifest) -> Vec<u8> {
        self.seal(&associated(&self.header.store_id), &manifest.encode())
    }

    pub(super) fn open_manifest(&self, sealed: &[u8]) -> Option<Manifest> {
        let plain = open(&self.dek, &associated(&self.header.store_id), sealed).ok()?;
        Manifest::decode(&plain).ok()
    }

    pub(super) fn seal_item(&self, name: &str, plain: &Secret) -> Vec<u8> {
        self.seal(&Encoder::new("keyhatch/item").text(name).finish(), plain.expose())
    }

    pub(super) fn open_item(&self, name: &str, sealed: &[u8]) -> Result<Secret, SealError> {
        open(&self.dek, &Encoder::new("keyhatch/item").text(name).finish(), sealed).map(|plain| Secret::from_opened(&plain))
    }

    /// Whether the last column of a row is the MAC over the others.
    pub(super) fn mac_holds(&self, table: Table, row: &Row) -> bool {
        let Some((mac, fields)) = row.split_last() else { return false };
        mac.as_blob().is_some_and(|mac| self.row.mac_is(&row_bytes(table, fields), mac))
    }

    fn with_mac(&self, table: Table, mut row: Row) -> Row {
        let mac = self.row.mac(&row_bytes(table, &row));
        row.push(Field::blob(&mac));
        row
    }

    pub(super) fn agent_row(&self, name: &AgentName, generation: u64, token: &TokenDigest, created_at: i64) -> Row {
        let row = vec![Field::text(name.as_str()), Field::Int(generation.cast_signed()), Field::blob(token.as_bytes()), Field::Int(created_at)];
        self.with_mac(Table::Agents, row)
    }

    pub(super) fn grant_row(&self, agent: &AgentName, credential: CredentialId, granted_at: i64) -> Row {
        self.with_mac(Table::Grants, vec![Field::text(agent.as_str()), Field::blob(&credential.0), Field::Int(granted_at)])
    }

    pub(super) fn usage_row(&self, subject: &Subject, usage: Usage) -> Row {
        let number = |n: Option<i64>| n.map_or(Field::Null, Field::Int);
        let row = vec![Field::text(subject.kind()), Field::blob(subject.key()), number(usage.at), number(usage.status.map(i64::from))];
        self.with_mac(Table::Usage, row)
    }

    /// The audit log's last known `seq` and `mac`.
    pub(super) fn checkpoint_value(&self, seq: u64, mac: &[u8; 32]) -> Vec<u8> {
        let body = Encoder::new("keyhatch/audit-checkpoint").bytes(&self.header.store_id).number(seq).bytes(mac).finish();
        [&seq.to_be_bytes()[..], mac, &self.row.mac(&body)].concat()
    }

    pub(super) fn open_checkpoint(&self, value: &[u8]) -> Option<(u64, [u8; 32])> {
        let (seq, rest) = value.split_first_chunk::<8>()?;
        let (mac, _) = rest.split_first_chunk::<32>()?;
        let seq = u64::from_be_bytes(*seq);
        let body = Encoder::new("keyhatch/audit-checkpoint").bytes(&self.header.store_id).number(seq).bytes(mac).finish();
        (rest.len() == 64 && self.row.mac_is(&body, &rest[32..])).then_some((seq, *mac))
    }
}

/// The row of a credential. Everything but the sealed values is in the manifest as well.
pub(super) fn credential_row(meta: &CredentialMeta, sealed: &[u8], previous: Option<&[u8]>) -> Row {
    let mut row = vec![Field::blob(&meta.id.0), Field::text(meta.name.as_str()), Field::Int(meta.version.cast_signed())];
    row.append(&mut terms::columns(&meta.terms));
    row.extend([
        // The place in Vault stands in the manifest and in the seal, not in the clear.
        Field::text(meta.source.kind()),
        Field::text(meta.fingerprint.as_deref().unwrap_or_default()),
        Field::Int(meta.created_at),
        meta.rotated_at.map_or(Field::Null, Field::Int),
        Field::blob(sealed),
        previous.map_or(Field::Null, Field::blob),
    ]);
    row
}

/// The digest of a whole row, for the manifest.
pub(super) fn digest(table: Table, row: &[Field]) -> Digest {
    Sha256::digest(row_bytes(table, row)).into()
}

/// The fingerprint of a secret: the first 8 hex digits of its HMAC under a key of the store.
pub(super) fn fingerprint(key: &Secret, secret: &Secret) -> Option<String> {
    let key: Zeroizing<[u8; 32]> = Zeroizing::new(key.expose().try_into().ok()?);
    Some(Key::from_bytes(*key).fingerprint(secret))
}

/// The version and the source of a value.
fn origin(meta: &CredentialMeta, slot: Slot) -> (u64, &Source) {
    match (slot, &meta.previous) {
        (Slot::Previous, Some(previous)) => (previous.version, &previous.source),
        _ => (meta.version, &meta.source),
    }
}

fn associated_of(meta: &CredentialMeta, slot: Slot) -> Vec<u8> {
    let (version, source) = origin(meta, slot);
    associated_with(meta.id, version, source, &meta.terms, slot)
}

fn associated_with(id: CredentialId, version: u64, source: &Source, terms: &Terms, slot: Slot) -> Vec<u8> {
    let mut out = Encoder::new("keyhatch/credential");
    out.byte(slot as u8).bytes(&id.0).number(version).text(&terms::encode_source(source));
    terms::encode(&mut out, terms);
    out.finish()
}

/// Type and content of every field, so that no change of either goes unseen.
fn row_bytes(table: Table, row: &[Field]) -> Vec<u8> {
    let mut out = Encoder::new("keyhatch/row");
    out.text(table.name());
    out.list(row, |e, field| match field {
        Field::Null => e.byte(0),
        Field::Int(value) => e.byte(1).signed(*value),
        Field::Text(bytes) => e.byte(2).bytes(bytes),
        Field::Blob(bytes) => e.byte(3).bytes(bytes),
    });
    out.finish()
}

#[cfg(test)]
mod tests {
    use super::super::manifest::Previous;
    use super::super::tests::{PLACE, agent, credential, key, reference, secret, stored, terms, token};
    use super::*;

    fn keys() -> Keys {
        let dek = Key::from_bytes([1; 32]);
        let header = Header::wrap([2; 16], &dek, &key(1), [3; 16], [4; 12]).expect("wraps");
        Keys::new(header, dek)
    }

    fn meta() -> CredentialMeta {
        CredentialMeta {
            id: CredentialId([5; 16]),
            name: credential("alpha"),
            version: 3,
            terms: terms("*.openrouter.ai"),
            source: Source::Local,
            fingerprint: Some(String::new()),
            created_at: 0,
            rotated_at: None,
            previous: Some(Previous { version: 2, source: Source::Local, fingerprint: Some(String::new()), replaced_at: 0 }),
            digest: [0; 32],
        }
    }

    /// The rows' digests would show such a change first; the seal holds by itself.
    #[test]
    fn a_sealed_secret_opens_under_its_own_terms_only() {
        let keys = keys();
        let sealed = keys.seal_value(&meta(), Slot::Current, &stored("sk-or-v1-test"));
        let opens = |meta: &CredentialMeta, slot| keys.open_value(meta, slot, &sealed).is_ok();
        assert!(opens(&meta(), Slot::Current));
        assert!(!opens(&meta(), Slot::Previous));
        assert!(!opens(&CredentialMeta { version: 4, ..meta() }, Slot::Current));
        assert!(!opens(&CredentialMeta { id: CredentialId([6; 16]), ..meta() }, Slot::Current));
        assert!(!opens(&CredentialMeta { terms: terms("evil.example"), ..meta() }, Slot::Current));
        assert!(!opens(&CredentialMeta { terms: Terms { enabled: false, ..terms("*.openrouter.ai") }, ..meta() }, Slot::Current));
        let previous = CredentialMeta { version: 2, ..meta() };
        assert!(!opens(&previous, Slot::Previous), "a current value is no previous one of the same version");
    }

    /// Neither may a secret go to Vault as a path, nor a path to an origin as a secret.
    #[test]
    fn a_secret_is_no_reference_and_a_reference_no_secret() {
        let keys = keys();
        let in_vault = |place: &str| CredentialMeta { source: reference(place).source(), fingerprint: None, ..meta() };
        let opened = |as_meta: &CredentialMeta, sealed: &[u8]| match keys.open_value(as_meta, Slot::Current, sealed) {
            Ok(Stored::Secret(_)) => Ok("a secret".to_owned()),
            Ok(Stored::Reference(reference)) => Ok(reference.to_string()),
            Err(e) => Err(e),
        };
        let (sealed_secret, sealed_reference) =
            (keys.seal_value(&meta(), Slot::Current, &stored(PLACE)), keys.seal_value(&in_vault(PLACE), Slot::Current, &reference(PLACE)));
        assert_eq!(opened(&in_vault(PLACE), &sealed_reference).as_deref(), Ok(PLACE));
        assert!(matches!(opened(&in_vault(PLACE), &sealed_secret), Err(ValueError::Sealed(_))), "though it is the same text");
        assert!(matches!(opened(&meta(), &sealed_reference), Err(ValueError::Sealed(_))));
        assert!(matches!(opened(&in_vault("secret/other#api_key"), &sealed_reference), Err(ValueError::Sealed(_))));
        assert!(keys.open_current(meta().id, 3, &meta().terms, &sealed_secret).is_ok());
        assert!(keys.open_current(meta().id, 3, &meta().terms, &sealed_reference).is_err());
        // Sealed under the right name, and another text: only who can unlock the store could make it.
        let other = keys.seal_value(&in_vault(PLACE), Slot::Current, &stored("sk-or-v1-test-0001"));
        assert_eq!(opened(&in_vault(PLACE), &other), Err(ValueError::OtherReference));
        assert!(!ValueError::OtherReference.to_string().contains("sk-or"));
    }

    #[test]
    fn a_previous_value_has_its_own_source() {
        let keys = keys();
        let previous = Previous { version: 2, source: reference(PLACE).source(), fingerprint: None, replaced_at: 0 };
        let moved = CredentialMeta { previous: Some(previous), ..meta() };
        let sealed = keys.seal_value(&moved, Slot::Previous, &reference(PLACE));
        assert!(matches!(keys.open_value(&moved, Slot::Previous, &sealed), Ok(Stored::Reference(_))));
        assert!(keys.open_value(&meta(), Slot::Previous, &sealed).is_err(), "with the source of another");
    }

    #[test]
    fn every_field_of_a_row_is_under_its_mac() {
        let keys = keys();
        let subject = Subject::Agent(agent("ci"));
        for (table, row) in [
            (Table::Agents, keys.agent_row(&agent("ci"), 1, &token(1), 2)),
            (Table::Grants, keys.grant_row(&agent("ci"), CredentialId([5; 16]), 2)),
            (Table::Usage, keys.usage_row(&subject, Usage { at: Some(1), status: None })),
        ] {
            assert!(keys.mac_holds(table, &row));
            for at in 0..row.len() {
                let mut other = row.clone();
                other[at] = Field::Int(7);
                assert!(!keys.mac_holds(table, &other), "{} {at}", table.name());
            }
        }
        let row = keys.grant_row(&agent("ci"), CredentialId([5; 16]), 2);
        assert!(!keys.mac_holds(Table::Agents, &row), "a row of one table is none of another");
    }

    #[test]
    fn items_and_checkpoints_have_their_place() {
        let keys = keys();
        let sealed = keys.seal_item("ca", &secret("x"));
        assert!(keys.open_item("ca", &sealed).is_ok() && keys.open_item("audit-key", &sealed).is_err());
        let value = keys.checkpoint_value(7, &[7; 32]);
        assert_eq!(keys.open_checkpoint(&value), Some((7, [7; 32])));
        for at in 0..value.len() {
            let mut other = value.clone();
            other[at] ^= 1;
            assert_eq!(keys.open_checkpoint(&other), None, "{at}");
            assert_eq!(keys.open_checkpoint(&value[..at]), None, "{at}");
        }
    }
}
