//! `keyhatch policy explain`

use clap::Args;

/// Say which rule and which credential a request would meet, and why; sends nothing
///
/// With --json, an object: decision (injected, tunnelled, forwarded, denied), credential,
/// pattern, reason, detail. Addresses are not looked up, so what `private_address` would refuse
/// is not seen here.
///
/// Examples:
///
///   keyhatch policy explain GET https://openrouter.ai/api/v1/models
///   keyhatch policy explain --agent builder POST https://openrouter.ai/api/v1/keys --json
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct ExplainArgs {
    /// The agent whose grants count
    #[arg(long, value_name = "A", default_value = "default")]
    agent: String,
    /// The request's method
    method: String,
    /// The request's URL
    url: String,
}
