//! Where plaintexts come from. [`CredentialSource::fetch`] is the only way to one, and it takes a [`Permit`].

pub mod hashicorp;
pub mod local;

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::credential::{CredentialId, Material};
use crate::policy::Permit;

/// A source of secrets.
pub trait CredentialSource: Send + Sync {
    /// The material for a request that has its permit.
    fn fetch(&self, permit: &Permit) -> Fetched;
}

/// What a source answers: at once where it knows the value, later where it has to ask.
pub enum Fetched {
    /// Known now.
    Now(Result<Arc<Material>, Unavailable>),
    /// To be awaited.
    Later(Pin<Box<dyn Future<Output = Result<Arc<Material>, Unavailable>> + Send>>),
}

/// Why a credential cannot be had. Its text is for the operator and holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct Unavailable {
    /// A short word for the audit log and the metric: `does_not_open`, `removed`, ...
    pub reason: &'static str,
    /// What happened, for the operator.
    pub detail: String,
    /// When it is worth asking again, where that is a matter of time.
    pub retry_after: Option<Duration>,
}

impl Unavailable {
    /// For a reason that time alone does not mend.
    #[must_use]
    pub fn new(reason: &'static str, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into(), retry_after: None }
    }
}

/// The value of one version of a credential, kept where a request gets it without waiting.
pub trait Held: Send + Sync {
    /// The version that a permit must name.
    fn version(&self) -> u64;
    /// The value. Neither locks nor asks anybody, where it is known.
    fn material(&self) -> Fetched;
}

/// What is held of every credential, wherever it comes from.
pub type Cells = HashMap<CredentialId, Arc<dyn Held>>;

/// All sources as one: a look-up, and the cell's own answer.
///
/// A permit names the version it was made for. When [`Sources::replace`] ran between decision and fetch, the answer
/// is `superseded`: the decision is to be taken anew on the new roster.
#[derive(Default)]
pub struct Sources(ArcSwap<Cells>);

impl Sources {
    /// Puts newer cells in force.
    pub fn replace(&self, cells: Cells) {
        self.0.store(Arc::new(cells));
    }
}

impl CredentialSource for Sources {
    fn fetch(&self, permit: &Permit) -> Fetched {
        let cells = self.0.load();
        match cells.get(&permit.credential()) {
            None => Fetched::Now(Err(Unavailable::new("removed", "the credential was removed"))),
            Some(cell) if cell.version() != permit.version() => {
                Fetched::Now(Err(Unavailable::new("superseded", "the credential was changed since the decision")))
            }
            Some(cell) => cell.material(),
        }
    }
}
