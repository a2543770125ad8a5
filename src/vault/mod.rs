//! Where plaintexts come from. [`CredentialSource::fetch`] is the only way to one, and it takes a [`Permit`].

pub mod hashicorp;
pub mod local;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::credential::Material;
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
}
