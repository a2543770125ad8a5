//! The certificate of `tls_listen`: the operator's own, or a leaf of the own CA for `tls_names`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::Mutex;

use super::leaf::{Kept, LeafCache, LeafError, server_config};
use crate::clock;
use crate::host::Host;

/// What session tickets of the listener hold for; no host is spelled so.
const PURPOSE: &str = "tls_listen";

/// Why `tls_listen` has no certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListenerTlsError {
    /// A file cannot be read.
    #[error("{file} cannot be read: {reason}; see tls_cert and tls_key in [proxy]")]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// A file does not hold what it should.
    #[error("{file} holds no {wanted} in PEM; see tls_cert and tls_key in [proxy]")]
    Content {
        /// The file.
        file: PathBuf,
        /// What it should hold.
        wanted: &'static str,
    },
    /// Certificate and key do not go together, or are of a kind that TLS cannot use.
    #[error("the certificate in {cert} and the key in {key} cannot be used together: {reason}; give the pair that belongs together")]
    Pair {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What rustls says.
        reason: String,
    },
    /// Neither files nor names.
    #[error("tls_listen has no name: give tls_names (the names and addresses that agents use), or tls_cert and tls_key, in [proxy]")]
    NoName,
}

/// The TLS side of `tls_listen`. Ask it anew for each connection: what it presents changes over time.
pub struct ListenerTls {
    identity: Identity,
    cache: Arc<LeafCache>,
}

enum Identity {
    Files { cert: PathBuf, key: PathBuf, config: ArcSwap<ServerConfig> },
    Own { names: Vec<Host>, kept: Mutex<Option<Kept>> },
}

impl ListenerTls {
    /// Presents the chain in `cert` (PEM, leaf first) with the key in `key` (PEM: PKCS #8, PKCS #1 or SEC 1).
    ///
    /// # Errors
    /// [`ListenerTlsError`] names the file at fault.
    pub fn from_files(cert: &Path, key: &Path, cache: Arc<LeafCache>) -> Result<Self, ListenerTlsError> {
        let config = ArcSwap::new(load(cert, key, &cache)?);
        Ok(Self { identity: Identity::Files { cert: cert.into(), key: key.into(), config }, cache })
    }

    /// Presents a leaf of the own CA for these names, made anew before it ends and when the CA changes.
    ///
    /// # Errors
    /// [`ListenerTlsError::NoName`] where there is none.
    pub fn own(names: Vec<Host>, cache: Arc<LeafCache>) -> Result<Self, ListenerTlsError> {
        if names.is_empty() {
            return Err(ListenerTlsError::NoName);
        }
        Ok(Self { identity: Identity::Own { names, kept: Mutex::new(None) }, cache })
    }

    /// The configuration for the next handshake.
    ///
    /// # Errors
    /// [`LeafError`] where the own CA gives no leaf.
    pub async fn config(&self) -> Result<Arc<ServerConfig>, LeafError> {
        match &self.identity {
            Identity::Files { config, .. } => Ok(config.load_full()),
            Identity::Own { names, kept } => {
                let now = clock::now();
                let mut kept = kept.lock().await;
                if let Some(kept) = kept.as_ref().filter(|kept| self.cache.serves(kept, now)) {
                    return Ok(Arc::clone(&kept.config));
                }
                let new = self.cache.mint(names.clone(), PURPOSE.to_owned(), now).await?;
                Ok(Arc::clone(&kept.insert(new).config))
            }
        }
    }

    /// Reads the operator's files again, after a renewal. The own CA's leaf needs no such thing.
    ///
    /// # Errors
    /// [`ListenerTlsError`]; what was presented before is presented on.
    pub fn reload(&self) -> Result<(), ListenerTlsError> {
        if let Identity::Files { cert, key, config } = &self.identity {
            config.store(load(cert, key, &self.cache)?);
        }
        Ok(())
    }
}

fn load(cert: &Path, key: &Path, cache: &LeafCache) -> Result<Arc<ServerConfig>, ListenerTlsError> {
    let fault = |file: &Path, wanted, e| match e {
        pem::Error::Io(e) => ListenerTlsError::Read { file: file.into(), reason: e.to_string() },
        _ => ListenerTlsError::Content { file: file.into(), wanted },
    };
    let chain: Vec<_> = CertificateDer::pem_file_iter(cert).and_then(|sections| sections.collect()).map_err(|e| fault(cert, "certificate", e))?;
    if chain.is_empty() {
        return Err(fault(cert, "certificate", pem::Error::NoItemsFound));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|e| fault(key, "private key", e))?;
    server_config(chain, private, cache.tickets_for(PURPOSE)).map_err(|e| ListenerTlsError::Pair {
        cert: cert.into(),
        key: key.into(),
        reason: e.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::acceptance::in_memory::{client_config, handshake};
    use crate::tls::{CaState, VERSIONS};

    fn cache() -> Arc<LeafCache> {
        let state = CaState::generate(clock::now()).expect("made");
        Arc::new(LeafCache::new(Arc::new(state)).expect("made"))
    }

    fn host(name: &str) -> Host {
        Host::parse(name).expect(name)
    }

    #[tokio::test]
    async fn one_leaf_for_all_names() {
        let cache = cache();
        let listener = ListenerTls::own(vec![host("proxy.example"), host("127.0.0.1"), host("[::1]")], Arc::clone(&cache)).expect("named");
        let config = listener.config().await.expect("minted");
        assert!(Arc::ptr_eq(&config, &listener.config().await.expect("kept")));
        let client = client_config(&cache.authority().anchors_pem(clock::now()), VERSIONS, &[]);
        for name in ["proxy.example", "127.0.0.1", "::1"] {
            handshake(&client, name, &config).expect(name);
        }
        assert!(handshake(&client, "other.example", &config).is_err());
        cache.replace_ca(Arc::new(CaState::generate(clock::now()).expect("made")));
        assert!(!Arc::ptr_eq(&config, &listener.config().await.expect("minted anew")));
    }

    #[test]
    fn no_name_is_an_error() {
        assert_eq!(ListenerTls::own(Vec::new(), cache()).err(), Some(ListenerTlsError::NoName));
    }

    #[tokio::test]
    async fn the_operators_files() {
        let dir = tempfile::tempdir().expect("made");
        let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
        let write = |name: &str| {
            let pair = rcgen::generate_simple_self_signed([name.to_owned()]).expect("made");
            std::fs::write(&cert, pair.cert.pem()).expect("written");
            std::fs::write(&key, pair.signing_key.serialize_pem()).expect("written");
            pair.cert.pem()
        };
        let first = write("first.example");
        let listener = ListenerTls::from_files(&cert, &key, cache()).expect("a good pair");
        let seen = |pem: &str, name: &str, config: Arc<ServerConfig>| handshake(&client_config(pem, VERSIONS, &[]), name, &config).is_ok();
        assert!(seen(&first, "first.example", listener.config().await.expect("there")));
        let second = write("second.example");
        listener.reload().expect("a good pair");
        assert!(seen(&second, "second.example", listener.config().await.expect("there")));

        let other = rcgen::generate_simple_self_signed(["x.example".to_owned()]).expect("made");
        std::fs::write(&key, other.signing_key.serialize_pem()).expect("written");
        assert!(matches!(listener.reload(), Err(ListenerTlsError::Pair { .. })));
        std::fs::write(&key, "nothing").expect("written");
        assert_eq!(listener.reload(), Err(ListenerTlsError::Content { file: key.clone(), wanted: "private key" }));
        std::fs::write(&cert, "").expect("written");
        assert_eq!(listener.reload(), Err(ListenerTlsError::Content { file: cert.clone(), wanted: "certificate" }));
        std::fs::remove_file(&cert).expect("removed");
        assert!(matches!(listener.reload(), Err(ListenerTlsError::Read { file, .. }) if file == cert));
        assert!(seen(&second, "second.example", listener.config().await.expect("still there")));
    }
}
