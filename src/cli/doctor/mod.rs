//! `keyhatch doctor`

use clap::Args;

/// Say what is wrong with this set-up, and the mend for each
///
/// It looks at the home and its permissions, the configuration, the store, the CA, a running
/// `serve` and its ports, the clock, and what the configuration points elsewhere. Where no
/// passphrase is at hand it leaves out what needs one. It exits 1 if something is wrong; a
/// remark alone is not. With --json, an array of objects: check, level (ok, note, warning,
/// wrong), message, mend.
///
/// Examples:
///
///   keyhatch doctor
///   keyhatch doctor --json
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct DoctorArgs {}
