//! The options of `credential add` that say where a secret may go; [`crate::config::terms`] makes terms of them.

use clap::{Args, ValueEnum};

use crate::cli::error::CommandError;
use crate::config::terms::{Kind, TermsSpec, Words};
use crate::credential::{CredentialName, Terms};

/// `--type`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Type {
    /// Authorization: Bearer SECRET
    Bearer,
    /// Authorization: Basic base64(SECRET); the secret is `user:password`
    Basic,
    /// A field of its own: see --header
    Header,
}

/// `--scrub`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnOff {
    /// Yes
    On,
    /// No
    Off,
}

/// Where the secret may go, and how it is presented.
#[derive(Debug, Args)]
pub(crate) struct TermsArgs {
    /// How the secret is presented [default: the provider's, else bearer]
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<Type>,
    /// The hosts it may go to; in the place of a provider's hosts and of its --path rules
    #[arg(long, value_name = "PATTERN", num_args = 1..)]
    allow: Vec<String>,
    /// Only paths that match a glob get it; in the place of a provider's such rules
    #[arg(long, value_name = "GLOB")]
    path: Vec<String>,
    /// Paths that match a glob are refused, before --path and whatever the case; added to a provider's
    #[arg(long, value_name = "GLOB")]
    deny_path: Vec<String>,
    /// Only requests with this method get it
    #[arg(long, value_name = "M")]
    method: Vec<String>,
    /// The header field that carries it (type header)
    #[arg(long, value_name = "NAME")]
    header: Option<String>,
    /// What stands before the secret in that field, as in "Token "
    #[arg(long, value_name = "P", allow_hyphen_values = true)]
    prefix: Option<String>,
    /// Whether responses are scrubbed of the secret (messages of WebSockets are not, those of gRPC only as far as they come in one piece)
    #[arg(long, value_name = "WHEN", default_value = "on")]
    scrub: OnOff,
    /// Let it go over plain http:// too, to ports that a pattern names
    #[arg(long)]
    allow_plaintext: bool,
    /// Accept a pattern that covers a public suffix or every host
    #[arg(long)]
    allow_broad: bool,
}

/// What the options are called where one is wrong.
const WORDS: Words = Words {
    kind: "--type",
    allow: "--allow",
    methods: "--method",
    header: "--header",
    prefix: "--prefix",
    allow_plaintext: "--allow-plaintext",
    allow_broad: Some("--allow-broad"),
    between: " ",
    two_methods: "--method GET --method POST",
};

impl TermsArgs {
    /// The terms; what is not given is the provider's, where the credential's name is a provider's.
    pub(crate) fn terms(&self, name: &CredentialName) -> Result<Terms, CommandError> {
        self.spec().terms(name).map_err(|e| CommandError::usage(e.message(&WORDS)).hint(e.mend(&WORDS)))
    }

    /// Whether a provider's `--path` rules would have counted, had no hosts been given.
    pub(crate) fn leaves_rules_out(&self, name: &CredentialName) -> bool {
        self.spec().leaves_rules_out(name)
    }

    fn spec(&self) -> TermsSpec {
        let kind = self.kind.map(|kind| match kind {
            Type::Bearer => Kind::Bearer,
            Type::Basic => Kind::Basic,
            Type::Header => Kind::Header,
        });
        TermsSpec {
            kind,
            allow: self.allow.clone(),
            paths: self.path.clone(),
            deny_paths: self.deny_path.clone(),
            methods: self.method.clone(),
            header: self.header.clone(),
            prefix: self.prefix.clone(),
            scrub: self.scrub == OnOff::On,
            allow_plaintext: self.allow_plaintext,
            allow_broad: self.allow_broad,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::credential::{DEFAULT_AUTH_HEADERS, Presentation};

    #[derive(Parser)]
    struct Line {
        name: String,
        #[command(flatten)]
        terms: TermsArgs,
    }

    fn terms(line: &str) -> Result<Terms, CommandError> {
        let line = Line::try_parse_from(format!("x {line}").split(' ')).expect(line);
        line.terms.terms(&CredentialName::parse(&line.name).expect("a name"))
    }

    #[test]
    fn a_provider_alone() {
        let t = terms("openrouter").expect("known");
        assert_eq!(t.presentation, Presentation::Bearer);
        assert_eq!(t.allowed_domains[0].to_string(), "*.openrouter.ai");
        assert_eq!((t.rules.allow.len(), t.rules.deny.len()), (1, 2));
        assert!(t.scrub && t.enabled && !t.allow_plaintext && t.provider.as_deref() == Some("openrouter"));
        assert!(matches!(terms("anthropic").expect("known").presentation, Presentation::Header { name, .. } if name == "x-api-key"));
    }

    #[test]
    fn options_override_or_add() {
        let t = terms("openrouter --path /v2/** --deny-path /v2/keys/** --method get --scrub off --header X-K").expect("good");
        assert_eq!((t.rules.allow, t.rules.deny.len(), t.rules.methods), (vec!["/v2/**".to_owned()], 3, vec!["GET".to_owned()]));
        assert!(!t.scrub && t.auth_headers.contains(&"x-k".to_owned()) && t.auth_headers.contains(&"authorization".to_owned()));
        let t = terms("openrouter --allow gw.example:8443 *.b.example --deny-path /k").expect("good");
        assert_eq!(t.allowed_domains.iter().map(ToString::to_string).collect::<Vec<_>>(), ["gw.example:8443", "*.b.example"]);
        let guarded = ["/api/v1/keys/**", "/api/v1/auth/keys/**", "/k"].map(str::to_owned);
        assert_eq!((t.rules.allow.len(), t.rules.deny), (0, guarded.to_vec()), "what guards the provider's keys stays");
        let t = terms("anthropic --allow gw.example").expect("good");
        assert!(DEFAULT_AUTH_HEADERS.iter().all(|h| t.auth_headers.iter().any(|a| a == h)), "{:?}", t.auth_headers);
        let t = terms("own --allow a.example --allow b.example a.example").expect("good");
        assert_eq!((t.allowed_domains.len(), t.presentation, t.auth_headers.len(), t.provider), (2, Presentation::Bearer, 0, None));
    }

    #[test]
    fn what_is_refused_exits_2() {
        for line in [
            "own",
            "own --allow *",
            "own --allow *.com",
            "own --allow a.*.b",
            "own --allow https://a.example",
            "own --allow a.example --type header",
            "own --allow a.example --prefix T",
            "own --allow a.example --type basic --header X",
            "own --allow a.example --header Host",
            "own --allow a.example --header Proxy-Authorization",
            "own --allow a.example --header a:b",
            "own --allow a.example --path x",
            "own --allow a.example --deny-path /{",
            "own --allow a.example --method TRACE",
            "own --allow a.example --method a(b",
            "own --allow a.example --allow-plaintext",
            "openrouter --allow-plaintext",
        ] {
            assert_eq!(terms(line).expect_err(line).kind.code(), 2, "{line}");
        }
        assert!(terms("own --allow *.com --allow-broad").is_ok());
        assert!(terms("own --allow a.example:80 --allow-plaintext").is_ok());
        let e = terms("sk-or-v1-0123456789abcdef0123456789abcdef").expect_err("no hosts").to_string();
        assert!(!e.contains("0123456789"), "{e}");
    }
}
