//! Reading the store: every row is held against the manifest.
//!
//! What does not fit is a fault with a name. The manifest stays the authority: a credential whose row is bad keeps
//! its terms, so that its hosts stay intercepted and are refused; a grant holds as sealed; an agent whose row is bad
//! cannot authenticate; a row that the manifest does not know is ignored.

use std::collections::{HashMap, HashSet};
use std::fmt;

use super::error::StoreError;
use super::manifest::{CredentialMeta, Digest, Manifest};
use super::seal::{CHECKPOINT, ITEM_PREFIX, KEY_RECORD, Keys, MANIFEST, Slot, Subject, Usage, digest};
use crate::agent::{AgentName, TokenDigest};
use crate::credential::{CredentialId, Source};
use crate::store::{DatabaseError, Field, Row, Table, Transaction};

/// A part of the store that is not what was sealed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Fault {
    /// `credential`, `agent`, `grant`, `usage`, `item`, `table` or `file`.
    pub what: &'static str,
    /// Its name; of a grant, `AGENT CREDENTIAL`. Escaped where the file gave it.
    pub name: String,
    /// What is wrong, what that means, and the mend.
    pub why: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}`: {}", self.what, self.name, self.why)
    }
}

/// Why a row is reported that is no part of the store.
pub(super) const FOREIGN: &str = "a row that is not part of this store (added, or an older one put back); it is ignored";

/// The sealed values of a sound credential row.
#[derive(Clone)]
pub(super) struct SealedRow {
    pub(super) sealed: Vec<u8>,
    pub(super) previous: Option<Vec<u8>>,
}

/// Everything that was read, and what is wrong with it.
pub(super) struct Snapshot {
    pub(super) manifest: Manifest,
    /// Of the credentials whose rows are sound.
    pub(super) rows: HashMap<CredentialId, SealedRow>,
    /// Of the agents whose rows are sound.
    pub(super) tokens: HashMap<AgentName, TokenDigest>,
    /// Sound items, sealed.
    pub(super) items: HashMap<String, Vec<u8>>,
    pub(super) usage: HashMap<Subject, Usage>,
    pub(super) checkpoint: Option<(u64, [u8; 32])>,
    pub(super) faults: Vec<Fault>,
    /// Rows that are not part of the store, but for copies of sound ones.
    pub(super) foreign: Vec<(Table, Row)>,
    /// Whether a table could not be read to its end: nothing is written then.
    pub(super) unreadable: bool,
}

/// The rows of a table that nothing has claimed yet.
struct Unclaimed {
    table: Table,
    rows: Vec<(Digest, Row)>,
    claimed: HashSet<Digest>,
    cut_short: bool,
}

impl Unclaimed {
    fn scan(tx: &Transaction<'_>, table: Table, faults: &mut Vec<Fault>) -> Self {
        let (rows, error) = tx.scan(table);
        if let Some(error) = &error {
            faults.push(Fault { what: "table", name: table.name().to_owned(), why: format!("it cannot be read to its end: {error}") });
        }
        Self { table, rows: rows.into_iter().map(|row| (digest(table, &row), row)).collect(), claimed: HashSet::new(), cut_short: error.is_some() }
    }

    fn claim(&mut self, expected: &Digest) -> Option<Row> {
        let at = self.rows.iter().position(|(d, _)| d == expected)?;
        Some(self.take(at))
    }

    fn claim_where(&mut self, fits: impl Fn(&Row) -> bool) -> Option<Row> {
        let at = self.rows.iter().position(|(_, row)| fits(row))?;
        Some(self.take(at))
    }

    fn take(&mut self, at: usize) -> Row {
        let (digest, row) = self.rows.swap_remove(at);
        self.claimed.insert(digest);
        row
    }

    /// What became of a row that is not there as sealed, told by the one that seems to stand in its place.
    fn fate(&mut self, fits: impl Fn(&Row) -> bool, older: impl Fn(&Row) -> bool) -> &'static str {
        match self.claim_where(fits) {
            Some(row) if older(&row) => "an older row was put in its place",
            Some(_) => "its row was changed outside keyhatch",
            None if self.cut_short => "its row cannot be read",
            None => "its row is missing",
        }
    }

    fn shown(&self, row: &Row, columns: &[&str]) -> String {
        let show = |column: &&str| match &row[self.table.column(column)] {
            Field::Text(bytes) => String::from_utf8_lossy(bytes).chars().take(64).flat_map(char::escape_debug).collect(),
            Field::Blob(bytes) => bytes.iter().take(16).map(|b| format!("{b:02x}")).collect(),
            Field::Int(value) => value.to_string(),
            Field::Null => "NULL".to_owned(),
        };
        columns.iter().map(show).collect::<Vec<String>>().join(" ")
    }

    /// Reports what nothing claimed: such a row has no effect, and goes with the next change.
    fn report_rest(self, what: &'static str, columns: &[&str], faults: &mut Vec<Fault>, foreign: &mut Vec<(Table, Row)>) {
        for (_, row) in &self.rows {
            faults.push(Fault { what, name: self.shown(row, columns), why: FOREIGN.to_owned() });
        }
        let Self { table, rows, claimed, .. } = self;
        foreign.extend(rows.into_iter().filter(|(digest, _)| !claimed.contains(digest)).map(|(_, row)| (table, row)));
    }
}

/// Finds the key record among the rows of `meta`.
pub(super) fn key_record(tx: &Transaction<'_>) -> Result<Vec<u8>, StoreError> {
    let (rows, error) = tx.scan(Table::Meta);
    if let Some(error) = error {
        return Err(error.into());
    }
    let mut records = rows.iter().filter(|r| r[0] == Field::text(KEY_RECORD)).map(|r| r[1].as_blob());
    match (records.next(), records.next()) {
        (Some(Some(record)), None) => Ok(record.to_vec()),
        (None, _) => Err(StoreError::damaged(tx.path(), "its key record is missing")),
        _ => Err(StoreError::damaged(tx.path(), "its key record is damaged")),
    }
}

/// Reads and checks everything.
///
/// # Errors
/// [`StoreError`] where the key record or the manifest is damaged, or the store was sealed anew.
pub(super) fn read(tx: &Transaction<'_>, keys: &Keys) -> Result<Snapshot, StoreError> {
    if key_record(tx)? != keys.record {
        return Err(StoreError::Resealed(tx.path().to_owned()));
    }
    let mut faults = Vec::new();
    let mut meta = Unclaimed::scan(tx, Table::Meta, &mut faults);
    meta.claim_where(|row| row[0] == Field::text(KEY_RECORD));
    let manifest = read_manifest(tx, keys, &mut meta)?;
    let mut out = Snapshot {
        manifest,
        rows: HashMap::new(),
        tokens: HashMap::new(),
        items: HashMap::new(),
        usage: HashMap::new(),
        checkpoint: None,
        faults,
        foreign: Vec::new(),
        unreadable: false,
    };
    out.read_meta(keys, meta);
    out.read_credentials(tx, keys);
    out.read_agents(tx, keys);
    out.read_grants(tx, keys);
    out.read_usage(tx, keys);
    out.unreadable = out.faults.iter().any(|f| f.what == "table");
    out.faults.sort();
    Ok(out)
}

/// The newest manifest that opens; an older one beside it stays among the rows that nothing claims.
fn read_manifest(tx: &Transaction<'_>, keys: &Keys, meta: &mut Unclaimed) -> Result<Manifest, StoreError> {
    let newest = meta
        .rows
        .iter()
        .filter(|(_, row)| row[0] == Field::text(MANIFEST))
        .filter_map(|(d, row)| keys.open_manifest(row[1].as_blob()?).map(|m| (*d, m)))
        .max_by_key(|(_, m)| m.counter);
    let Some((found, manifest)) = newest else {
        return Err(StoreError::damaged(tx.path(), "its manifest is missing or changed"));
    };
    meta.claim(&found);
    let schema = tx.schema()?;
    if manifest.schema != schema {
        return Err(StoreError::damaged(tx.path(), format!("it says schema {schema} and was sealed as schema {}", manifest.schema)));
    }
    Ok(manifest)
}

fn credential_fault(meta: &CredentialMeta, what: &str) -> Fault {
    let name = meta.name.to_string();
    let mend = match meta.source {
        Source::Local => format!("`keyhatch credential rotate {name}` takes its secret anew"),
        Source::Vault(_) => format!("`keyhatch credential rotate {name} --vault MOUNT/PATH#FIELD` takes its place in Vault anew"),
    };
    Fault { what: "credential", why: format!("{what}; its requests are refused; {mend}"), name }
}

impl Snapshot {
    fn fault(&mut self, what: &'static str, name: impl Into<String>, why: impl Into<String>) {
        self.faults.push(Fault { what, name: name.into(), why: why.into() });
    }

    fn read_meta(&mut self, keys: &Keys, mut meta: Unclaimed) {
        for (name, expected) in self.manifest.items.clone() {
            let key = Field::text(&format!("{ITEM_PREFIX}{name}"));
            match meta.claim(&expected).as_deref() {
                Some([_, Field::Blob(sealed)]) => drop(self.items.insert(name, sealed.clone())),
                _ => {
                    let fate = meta.fate(|row| row[0] == key, |row| row[1].as_blob().is_some_and(|b| keys.open_item(&name, b).is_ok()));
                    self.fault("item", name, format!("{fate}; put back a backup with `keyhatch store restore`"));
                }
            }
        }
        let row = meta.claim_where(|row| row[0] == Field::text(CHECKPOINT));
        self.checkpoint = row.as_ref().and_then(|row| keys.open_checkpoint(row[1].as_blob()?));
        if self.checkpoint.is_none() {
            let fate = if row.is_some() { "its row was changed outside keyhatch" } else { "its row is missing" };
            self.fault("item", CHECKPOINT, format!("{fate}; a cut tail of the audit log would not show until the next one is written"));
        }
        meta.report_rest("item", &["name"], &mut self.faults, &mut self.foreign);
    }

    fn read_credentials(&mut self, tx: &Transaction<'_>, keys: &Keys) {
        let table = Table::Credentials;
        let mut rows = Unclaimed::scan(tx, table, &mut self.faults);
        let (id, name, version) = (table.column("id"), table.column("name"), table.column("version"));
        let (sealed, previous) = (table.column("sealed"), table.column("previous"));
        let mut missing = Vec::new();
        for meta in &self.manifest.credentials {
            let Some(row) = rows.claim(&meta.digest) else {
                missing.push(meta);
                continue;
            };
            let part = |at: usize| row[at].as_blob().map(<[u8]>::to_vec);
            let row = SealedRow { sealed: part(sealed).unwrap_or_default(), previous: part(previous) };
            // A secret is opened at its first use. A reference is acted on without one, so it is held against its seal here.
            match matches!(meta.source, Source::Vault(_)).then(|| keys.open_value(meta, Slot::Current, &row.sealed)) {
                Some(Err(why)) => self.faults.push(credential_fault(meta, &why.to_string())),
                Some(Ok(_)) | None => drop(self.rows.insert(meta.id, row)),
            }
        }
        for meta in missing {
            let fits = |row: &Row| row[id] == Field::blob(&meta.id.0) || row[name] == Field::text(meta.name.as_str());
            let fate = rows.fate(fits, |row| row[version].as_int().is_some_and(|v| v.cast_unsigned() < meta.version));
            self.faults.push(credential_fault(meta, fate));
        }
        rows.report_rest("credential", &["name"], &mut self.faults, &mut self.foreign);
    }

    fn read_agents(&mut self, tx: &Transaction<'_>, keys: &Keys) {
        let table = Table::Agents;
        let mut rows = Unclaimed::scan(tx, table, &mut self.faults);
        let (name, token) = (table.column("name"), table.column("token"));
        let mut missing = Vec::new();
        for meta in &self.manifest.agents {
            let row = rows.claim(&meta.digest).filter(|row| keys.mac_holds(table, row));
            let digest = row.and_then(|row| row[token].as_blob().and_then(|b| b.try_into().ok()).map(TokenDigest::from_bytes));
            match digest {
                Some(digest) => drop(self.tokens.insert(meta.name.clone(), digest)),
                None => missing.push(meta.name.to_string()),
            }
        }
        for called in missing {
            let fate = rows.fate(|row| row[name] == Field::text(&called), |row| keys.mac_holds(table, row));
            let mend = format!("it cannot authenticate; `keyhatch agent rotate {called}` gives it a new token");
            self.fault("agent", called, format!("{fate}; {mend}"));
        }
        rows.report_rest("agent", &["name"], &mut self.faults, &mut self.foreign);
    }

    fn read_grants(&mut self, tx: &Transaction<'_>, keys: &Keys) {
        let table = Table::Grants;
        let mut rows = Unclaimed::scan(tx, table, &mut self.faults);
        let mut missing = Vec::new();
        for meta in &self.manifest.grants {
            if rows.claim(&meta.digest).is_none() {
                let credential = self.manifest.by_id(meta.credential).map_or_else(|| meta.credential.to_string(), |c| c.name.to_string());
                missing.push((meta.agent.to_string(), meta.credential, credential));
            }
        }
        for (agent, id, credential) in missing {
            let fits = |row: &Row| row[0] == Field::text(&agent) && row[1] == Field::blob(&id.0);
            let fate = rows.fate(fits, |row| keys.mac_holds(table, row));
            let mend = format!("the grant holds as it was sealed; `keyhatch agent grant {agent} {credential}` writes the row anew");
            self.fault("grant", format!("{agent} {credential}"), format!("{fate}; {mend}"));
        }
        rows.report_rest("grant", &["agent", "credential"], &mut self.faults, &mut self.foreign);
    }

    fn read_usage(&mut self, tx: &Transaction<'_>, keys: &Keys) {
        let table = Table::Usage;
        let mut rows = Unclaimed::scan(tx, table, &mut self.faults);
        let credentials = self.manifest.credentials.iter().map(|c| (Subject::Credential(c.id), c.name.to_string()));
        let agents = self.manifest.agents.iter().map(|a| (Subject::Agent(a.name.clone()), a.name.to_string()));
        for (subject, name) in credentials.chain(agents).collect::<Vec<_>>() {
            let own = |row: &Row| row[0] == Field::text(subject.kind()) && row[1] == Field::blob(subject.key());
            let sound = rows.claim_where(|row| own(row) && keys.mac_holds(table, row));
            match sound.as_deref() {
                Some([_, _, at, status, _]) => {
                    let status = status.as_int().and_then(|s| u16::try_from(s).ok());
                    self.usage.insert(subject, Usage { at: at.as_int(), status });
                }
                _ => {
                    let fate = rows.fate(own, |_| false);
                    self.fault("usage", name, format!("{fate}; when the {} was last used is unknown until it is used again", subject.kind()));
                }
            }
        }
        rows.report_rest("usage", &["kind", "subject"], &mut self.faults, &mut self.foreign);
    }
}

/// The error for a store that must not be written, since a table of it cannot be read to its end.
pub(super) fn refuse_unreadable(tx: &Transaction<'_>, snapshot: &Snapshot) -> Result<(), StoreError> {
    match snapshot.faults.iter().find(|f| f.what == "table") {
        Some(fault) if snapshot.unreadable => Err(DatabaseError::Damaged { path: tx.path().to_owned(), what: fault.to_string() }.into()),
        _ => Ok(()),
    }
}
