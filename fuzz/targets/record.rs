//! The record of all rows: what is decoded means one thing, and is written as that.

use keyhatch::vault::local::recoded;

/// The input: the record, after its label.
pub fn run(data: &[u8]) {
    let label = keyhatch::envelope::Encoder::new("keyhatch/manifest").finish();
    for bytes in [data, &[&label[..], data].concat()] {
        let Some(once) = recoded(bytes) else { continue };
        // A host pattern may have been spelled in another way; what is written is spelled in one.
        assert_eq!(recoded(&once).as_deref(), Some(&once[..]), "what was written reads as itself");
        assert!(once.len() <= bytes.len() + 16 * 1024, "a record grew from {} to {} bytes", bytes.len(), once.len());
    }
}
