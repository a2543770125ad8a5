//! `keyhatch credential test`

use clap::Args;

/// Ask the origin whether it accepts a credential
///
/// One GET of the provider's test URL, or of --url, by the same rules as the proxy's: verified
/// TLS, checked addresses, [resolve]. It prints the status and nothing of the answer, and exits
/// 1 if that is not 2xx.
///
/// Examples:
///
///   keyhatch credential test openrouter
///   keyhatch credential test internal --url https://api.corp.example/whoami
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct TestArgs {
    /// The credential
    name: String,
    /// What to ask, in the place of the provider's test URL
    #[arg(long, value_name = "URL")]
    url: Option<String>,
}
