//! The system's trust anchors and our CA in one file: for clients whose variable replaces their roots.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::cli::error::CommandError;
use crate::home::{Home, Mode, write_atomic};
use crate::tls::SystemStore;

/// The file's name in the home.
const FILE_NAME: &str = "ca-bundle.pem";
/// Characters a line (RFC 7468 2).
const LINE: usize = 64;

/// The bundle: the system's anchors, from the system's own places and never from a variable that may name this very
/// bundle, and `own`, our CA in PEM.
pub(in crate::cli) fn bundle(own: &str) -> Result<String, CommandError> {
    let mut warnings = Vec::new();
    let anchors = SystemStore::here().certificates(&mut warnings);
    let mut out = String::with_capacity(anchors.len() * 2048 + own.len());
    for certificate in anchors {
        out.push_str("-----BEGIN CERTIFICATE-----\n");
        let text = STANDARD.encode(&certificate);
        for line in text.as_bytes().chunks(LINE) {
            out.push_str(std::str::from_utf8(line).expect("base64 is ASCII"));
            out.push('\n');
        }
        out.push_str("-----END CERTIFICATE-----\n");
    }
    out.push_str(own);
    Ok(out)
}

/// Writes the bundle into the home, where it is not there yet, and says where. Readable by all: it holds nothing secret.
pub(in crate::cli) fn write_bundle(home: &Home, own: &str) -> Result<PathBuf, CommandError> {
    let text = bundle(own)?;
    let file = home.dir().join(FILE_NAME);
    // A command that reads it meanwhile sees the old content or the new.
    if std::fs::read(&file).ok().as_deref() != Some(text.as_bytes()) {
        write_atomic(&file, text.as_bytes(), Mode::Public)?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject as _;

    #[test]
    fn the_systems_and_ours_and_each_reads() {
        let dir = tempfile::tempdir().expect("a directory");
        let home = Home::locate(Some(dir.path())).expect("a home");
        let now = jiff::Timestamp::from_second(1_790_000_000).expect("in range");
        let own = crate::tls::CaState::generate(now).expect("a CA").anchors_pem(now);
        let file = write_bundle(&home, &own).expect("written");
        let all: Vec<_> = CertificateDer::pem_file_iter(&file).expect("read").collect::<Result<_, _>>().expect("PEM");
        let own = CertificateDer::from_pem_slice(own.as_bytes()).expect("PEM");
        assert_eq!(all.last(), Some(&own));
        assert_eq!(all.len(), SystemStore::here().certificates(&mut Vec::new()).len() + 1);
        write_bundle(&home, &std::fs::read_to_string(&file).expect("text")).expect("written again");
    }
}
