//! A rustls client and a rustls server that talk through buffers.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, ConnectionCommon, Error, HandshakeKind, RootCertStore, ServerConfig, ServerConnection, SideData,
    SupportedProtocolVersion,
};

use crate::tls::{ALPN, VERSIONS, protocols, provider};

/// What a handshake came to, on the client's side.
#[derive(Debug)]
pub(in crate::tls) struct Done {
    pub(in crate::tls) kind: Option<HandshakeKind>,
    pub(in crate::tls) alpn: Option<Vec<u8>>,
}

/// A client that trusts the certificates in `pem`, with a session store of its own.
pub(in crate::tls) fn client_config(pem: &str, versions: &[&'static SupportedProtocolVersion], alpn: &[&[u8]]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        roots.add(certificate.expect("PEM")).expect("an anchor");
    }
    let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(versions).expect("versions");
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = protocols(alpn);
    Arc::new(config)
}

/// An origin with one certificate.
pub(in crate::tls) fn server(certificate: CertificateDer<'static>, key: Vec<u8>) -> Arc<ServerConfig> {
    let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(VERSIONS).expect("versions");
    let key = PrivatePkcs8KeyDer::from(key).into();
    let mut config = builder.with_no_client_auth().with_single_cert(vec![certificate], key).expect("a pair");
    config.alpn_protocols = protocols(ALPN);
    Arc::new(config)
}

/// A handshake, and what follows it by itself (tickets).
pub(in crate::tls) fn handshake(client: &Arc<ClientConfig>, name: &str, server: &Arc<ServerConfig>) -> Result<Done, Error> {
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let mut client = ClientConnection::new(Arc::clone(client), name)?;
    let mut server = ServerConnection::new(Arc::clone(server))?;
    while client.wants_write() || server.wants_write() {
        pass(&mut client, &mut server)?;
        pass(&mut server, &mut client)?;
    }
    assert!(!client.is_handshaking() && !server.is_handshaking(), "neither side has more to say");
    Ok(Done { kind: client.handshake_kind(), alpn: client.alpn_protocol().map(<[u8]>::to_vec) })
}

fn pass<A: SideData, B: SideData>(from: &mut ConnectionCommon<A>, to: &mut ConnectionCommon<B>) -> Result<(), Error> {
    let mut bytes = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut bytes).expect("into memory");
    }
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        to.read_tls(&mut rest).expect("from memory");
        to.process_new_packets()?;
    }
    Ok(())
}
