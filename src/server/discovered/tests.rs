mod beside;

use std::cell::RefCell;

use super::*;

/// An entry: its custom metadata, and its value.
struct Entry {
    name: &'static str,
    custom: BTreeMap<String, String>,
    value: BTreeMap<&'static str, &'static str>,
}

fn entry(name: &'static str, custom: &[(&str, &str)], value: &[(&'static str, &'static str)]) -> Entry {
    let custom = custom.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Entry { name, custom, value: value.iter().copied().collect() }
}

const KEY: &[(&str, &str)] = &[("api_key", "sk-test-0123456789abcdef")];

impl Entry {
    fn read(&self, rules: &DiscoverRules) -> Result<Discovered, String> {
        let asked = RefCell::new(Vec::new());
        let names: Vec<&str> = self.value.keys().copied().collect();
        let plain = |key: &str| {
            asked.borrow_mut().push(key.to_owned());
            self.value.get(key).map(|v| (*v).to_owned())
        };
        let found = Found {
            folder: "secret/keyhatch",
            name: self.name,
            custom: &self.custom,
            version: Some(3),
            empty: false,
            field_names: &names,
            plain: &plain,
        };
        let answer = credential(&found, rules);
        assert!(rules.fields || asked.borrow().is_empty(), "fields of the value were read: {:?}", asked.borrow());
        assert!(asked.borrow().iter().all(|key| keys::CREDENTIAL.contains(&key.as_str())), "{:?}", asked.borrow());
        answer
    }

    fn good(&self) -> Discovered {
        self.read(&DiscoverRules::default()).unwrap_or_else(|e| panic!("{e}"))
    }

    fn refused(&self) -> String {
        self.read(&DiscoverRules::default()).map(|_| ()).expect_err("refused")
    }
}

fn with_fields() -> DiscoverRules {
    DiscoverRules { allow: None, fields: true }
}

fn domains(d: &Discovered) -> Vec<String> {
    d.entry.terms.allowed_domains.iter().map(ToString::to_string).collect()
}

fn names(agents: &[AgentName]) -> Vec<&str> {
    agents.iter().map(AgentName::as_str).collect()
}

#[test]
fn a_providers_name_is_enough() {
    let d = entry("openrouter", &[], KEY).good();
    assert_eq!(d.entry.terms, TermsSpec::default().terms(&d.entry.name).expect("a provider"));
    assert_eq!((names(&d.agents), d.reference.to_string().as_str()), (vec!["default"], "secret/keyhatch/openrouter#api_key"));
    assert!(d.entry.broken.is_none() && d.notes.is_empty());
}

#[test]
fn metadata_says_the_rest() {
    let d = entry(
        "internal",
        &[
            ("allowed_domains", "*.corp.example, corp.example:80"),
            ("type", "header"),
            ("header", "X-Token"),
            ("prefix", "Token "),
            ("paths", r#"["/api/{a,b}/**"]"#),
            ("deny_paths", "/api/keys/** /api/admin"),
            ("methods", "get,POST"),
            ("agents", "builder, default builder"),
            ("scrub", "off"),
            ("allow_plaintext", "true"),
            ("field", "own"),
            ("enabled", "false"),
            ("owner", "somebody"),
        ],
        &[("own", "x"), ("api_key", "y")],
    )
    .good();
    let terms = &d.entry.terms;
    assert_eq!(terms.presentation, crate::credential::Presentation::Header { name: "x-token".parse().expect("a name"), prefix: "Token ".to_owned() });
    assert_eq!(domains(&d), ["*.corp.example", "corp.example:80"]);
    assert_eq!((terms.rules.allow.join(" "), terms.rules.deny.join(" ")), ("/api/{a,b}/**".to_owned(), "/api/keys/** /api/admin".to_owned()));
    assert_eq!(terms.rules.methods, ["GET", "POST"]);
    assert!(!terms.scrub && terms.allow_plaintext && !terms.enabled);
    assert_eq!((names(&d.agents), d.reference.field()), (vec!["builder", "default"], "own"));
}

#[test]
fn an_identity_hangs_on_the_path_and_a_version_on_the_terms() {
    let a = entry("a", &[("allowed_domains", "a.example")], KEY).good();
    let same = entry("a", &[("allowed_domains", "a.example"), ("owner", "x")], &[("api_key", "another value"), ("note", "n")]).good();
    assert_eq!((a.entry.id, a.entry.version), (same.entry.id, same.entry.version));
    let other_terms = [("paths", "/x"), ("deny_paths", "/x"), ("scrub", "off"), ("enabled", "off"), ("type", "basic"), ("field", "note")];
    for (key, value) in other_terms {
        let other = entry("a", &[("allowed_domains", "a.example"), (key, value)], &[("api_key", "k"), ("note", "n")]).good();
        assert_eq!(other.entry.id, a.entry.id);
        assert_ne!(other.entry.version, a.entry.version, "{key}");
    }
    assert_ne!(entry("b", &[("allowed_domains", "a.example")], KEY).good().entry.id, a.entry.id);
    let hash = Sha256::digest(b"keyhatch discovered credential\0secret/keyhatch/a");
    assert_eq!(a.entry.id.0, hash[..16]);
}

#[test]
fn which_field_is_the_secret() {
    let hosts = ("allowed_domains", "a.example");
    for (value, field) in [
        (&[("password", ""), ("api_key", ""), ("apiKey", "")][..], "api_key"),
        (&[("token", ""), ("key", "")][..], "key"),
        (&[("secret", ""), ("user", "")][..], "secret"),
        (&[("anything", "")][..], "anything"),
        (&[("with space", "")][..], "with space"),
    ] {
        assert_eq!(entry("a", &[hosts], value).good().reference.field(), field);
    }
    for value in [&[][..], &[("one", ""), ("two", "")][..], &[("a#b", "")][..], &[("a?version=1", "")][..]] {
        assert!(entry("a", &[hosts], value).read(&DiscoverRules::default()).is_err(), "{value:?}");
    }
    let e = entry("a", &[hosts, ("field", "sk-something")], &[("one", ""), ("two", "")]).refused();
    assert!(e.contains("one, two") && !e.contains("sk-something"), "{e}");
    // With fields that count, one that is a rule is not the secret.
    let d = entry("a", &[], &[("allowed_domains", "a.example"), ("own", "")]).read(&with_fields()).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(d.reference.field(), "own");
    assert!(entry("openrouter", &[], &[("paths", "/x")]).read(&with_fields()).is_err());
}

#[test]
fn metadata_wins_over_fields_and_fields_count_only_where_they_may() {
    let value = &[("api_key", "k"), ("allowed_domains", "b.example"), ("agents", "builder"), ("deny_paths", "/x"), ("scrub", "off")];
    let without = entry("a", &[("allowed_domains", "a.example")], value).good();
    assert_eq!((domains(&without), names(&without.agents)), (vec!["a.example".to_owned()], vec!["default"]));
    assert!(without.entry.terms.scrub && without.entry.terms.rules.deny.is_empty());
    assert_eq!(without.notes.len(), 3, "{:?}", without.notes);
    assert!(without.notes.iter().all(|n| n.starts_with("secret/keyhatch/a: the field `") && n.contains("discover_fields")), "{:?}", without.notes);
    assert!(entry("a", &[], value).refused().contains("allowed_domains=PATTERN"));
    let with = entry("a", &[("allowed_domains", "a.example")], value).read(&with_fields()).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!((domains(&with), names(&with.agents)), (vec!["a.example".to_owned()], vec!["builder"]));
    assert!(!with.entry.terms.scrub && with.entry.terms.rules.deny == ["/x"] && with.notes.is_empty());
}

#[test]
fn what_a_provider_denies_stays_denied() {
    let guarded = ["/api/v1/keys/**", "/api/v1/auth/keys/**"];
    for rules in [DiscoverRules::default(), with_fields()] {
        let elsewhere =
            entry("openrouter", &[("allowed_domains", "evil.example"), ("paths", "/**")], KEY).read(&rules).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!((domains(&elsewhere), &elsewhere.entry.terms.rules.deny[..]), (vec!["evil.example".to_owned()], &guarded.map(str::to_owned)[..]));
    }
    let value = &[("api_key", "k"), ("allowed_domains", "evil.example openrouter.ai"), ("deny_paths", "/x")];
    let by_value = entry("openrouter", &[], value).read(&with_fields()).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(by_value.entry.terms.rules.deny, ["/api/v1/keys/**", "/api/v1/auth/keys/**", "/x"]);
    // Without leave the value says nothing at all.
    assert_eq!(domains(&entry("openrouter", &[], value).good()), ["*.openrouter.ai"]);
}

#[test]
fn the_cap_holds_for_every_pattern() {
    let cap = |patterns: &[&str]| DiscoverRules { allow: Some(patterns.iter().map(|p| HostPattern::parse(p).expect(p)).collect()), fields: false };
    let read = |domains: &str, patterns: &[&str]| entry("a", &[("allowed_domains", domains)], KEY).read(&cap(patterns)).map(|_| ());
    assert_eq!(read("a.corp.example *.b.corp.example", &["*.corp.example"]), Ok(()));
    assert_eq!(read("a.corp.example:443 x.example:8443", &["*.corp.example", "x.example:*"]), Ok(()));
    for (domains, patterns) in [
        ("a.corp.example evil.example", &["*.corp.example"][..]),
        ("evilcorp.example", &["*.corp.example"]),
        ("a.corp.example:8443", &["*.corp.example"]),
        ("*.b.example", &["*.a.b.example"]),
        ("a.example", &[]),
    ] {
        let e = read(domains, patterns).expect_err(domains);
        assert!(e.starts_with("secret/keyhatch/a: pattern `") && e.contains("discover_allow"), "{e}");
    }
    assert!(entry("openrouter", &[], KEY).read(&cap(&["*.corp.example"])).is_err(), "a provider's own hosts are under the cap as well");
    assert!(entry("openrouter", &[], KEY).read(&cap(&["*.openrouter.ai"])).is_ok());
}

#[test]
fn what_is_malformed_is_refused_by_name() {
    let long = "x".repeat(3000);
    let many: Vec<(&'static str, Vec<(&str, &str)>)> = vec![
        ("own", vec![]),
        ("own", vec![("allowed_domains", "*")]),
        ("own", vec![("allowed_domains", "*.com")]),
        ("own", vec![("allowed_domains", "a.example *.co.uk")]),
        ("own", vec![("allowed_domains", "*"), ("allow_broad", "true")]),
        ("own", vec![("allowed_domains", "https://a.example")]),
        ("own", vec![("allowed_domains", "")]),
        ("own", vec![("allowed_domains", r#"["a.example""#)]),
        ("openrouter", vec![("allowed_domains", " , ")]),
        ("openrouter", vec![("paths", "[]")]),
        ("openrouter", vec![("paths", "api/**")]),
        ("openrouter", vec![("deny_paths", "/{a,b}")]),
        ("openrouter", vec![("deny_paths", "")]),
        ("openrouter", vec![("deny_paths", &long)]),
        ("openrouter", vec![("methods", "TRACE")]),
        ("openrouter", vec![("type", "digest")]),
        ("openrouter", vec![("type", "header")]),
        ("openrouter", vec![("type", "")]),
        ("openrouter", vec![("header", "Host")]),
        ("openrouter", vec![("header", "a:b")]),
        ("openrouter", vec![("header", "X-A"), ("prefix", "a\nb")]),
        ("openrouter", vec![("scrub", "maybe")]),
        ("openrouter", vec![("enabled", "")]),
        ("openrouter", vec![("allow_plaintext", "true")]),
        ("openrouter", vec![("agents", "a b/c")]),
        ("openrouter", vec![("field", "")]),
        ("openrouter", vec![("allowed_domain", "evil.example")]),
        ("openrouter", vec![("deny_path", "/x")]),
        ("openrouter", vec![("path", "/x")]),
        ("openrouter", vec![("method", "GET")]),
        ("openrouter", vec![("agent", "builder")]),
        ("openrouter", vec![("disabled", "true")]),
    ];
    for (name, custom) in many {
        let e = entry(name, &custom, KEY).refused();
        assert!(e.starts_with(&format!("secret/keyhatch/{name}: ")) && e.len() < 400 && !e.contains('\n'), "{custom:?}: {e}");
    }
    let e = entry("openrouter", &[("deny_path", "/x")], KEY).refused();
    assert_eq!(e, "secret/keyhatch/openrouter: its custom metadata has `deny_path`, which means nothing; write `deny_paths`");
    let e = entry("own", &[("allowed_domains", "a\u{1b}[2J\u{202e}.example")], KEY).refused();
    assert!(!e.contains(escape::is_unsafe), "{e:?}");
}

#[test]
fn names_that_are_none_are_refused() {
    for name in ["", "-a", "a b", "a/b", "..", "ä", "a#b", "a\nb", "\u{1b}[2J"] {
        let e = entry(name, &[("allowed_domains", "a.example")], KEY).refused();
        assert!(e.starts_with("secret/keyhatch: `") && e.is_ascii() && !e.contains(escape::is_unsafe), "{e:?}");
    }
}

#[test]
fn slips_in_the_value_count_where_the_value_does() {
    let value = &[("api_key", "k"), ("deny_path", "/x")];
    assert!(entry("openrouter", &[], value).read(&DiscoverRules::default()).is_ok());
    let e = entry("openrouter", &[], value).read(&with_fields()).map(|_| ()).expect_err("a slip");
    assert!(e.contains("its value has `deny_path`"), "{e}");
    // A field that metadata names as the secret is one, whatever it is called.
    assert!(entry("openrouter", &[("field", "method")], &[("method", "k")]).read(&with_fields()).is_ok());
    // What is a number or a list in Vault is no text.
    let custom = BTreeMap::new();
    let found = Found {
        folder: "kv",
        name: "openrouter",
        custom: &custom,
        version: Some(3),
        empty: false,
        field_names: &["api_key", "paths"],
        plain: &|_| None,
    };
    assert!(credential(&found, &with_fields()).map(|_| ()).expect_err("no text").contains("`paths` of its value is no text"));
}

#[test]
fn nobody_is_meant_by_an_empty_list_of_agents() {
    for none in ["", "[]", " "] {
        assert!(entry("openrouter", &[("agents", none)], KEY).good().agents.is_empty());
    }
}

const TOKEN: &str = "kha_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG";

fn secret(text: &str) -> Secret {
    Secret::from_opened(text.as_bytes())
}

fn found_agent(name: &str, token: &str) -> AgentEntry {
    agent(name, &BTreeMap::new(), Some(&secret(token)), None, Some(1)).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn an_agent_has_a_token_or_its_digest() {
    let by_token = found_agent("builder", &format!("{TOKEN}\n"));
    assert!(by_token.token == TokenDigest::of(TOKEN.as_bytes()));
    let hex: String = Sha256::digest(TOKEN).iter().map(|b| format!("{b:02X}")).collect();
    let none = BTreeMap::new();
    let by_digest = agent("builder", &none, None, Some(&hex), Some(1)).unwrap_or_else(|e| panic!("{e}"));
    assert!(by_digest.token == by_token.token && by_digest.generation == by_token.generation);
    assert!(agent("builder", &none, Some(&secret(TOKEN)), Some(&hex), Some(1)).is_ok());
    let other = found_agent("builder", &"x".repeat(32));
    assert!(other.generation != by_token.generation && found_agent("other", TOKEN).generation != by_token.generation);
    assert!(by_token.generation >> 63 == 0 && other.generation >> 63 == 0);
    let said = |custom: &[(&str, &str)]| {
        let custom = custom.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        agent("builder", &custom, Some(&secret(TOKEN)), None, Some(1)).map(|_| ())
    };
    assert!(said(&[("owner", "x"), ("enabled", "true")]).is_ok());
    for custom in [("enabled", "false"), ("enabled", "perhaps"), ("disabled", "true"), ("enable", "false")] {
        assert!(said(&[custom]).is_err(), "{custom:?}");
    }
}

#[test]
fn an_agent_without_a_sound_token_is_refused_by_name() {
    let none = BTreeMap::new();
    let hex = "0".repeat(64);
    for (token, digest) in [
        (None, None),
        (Some(""), None),
        (Some("short-token"), None),
        (Some("0123456789abcdef 0123456789abcdef"), None),
        (Some("0123456789abcdef\n0123456789abcdef"), None),
        (Some("ä0123456789abcdef0123456789abcdef"), None),
        (None, Some("")),
        (None, Some(&hex[1..])),
        (None, Some("+0000000000000000000000000000000000000000000000000000000000000000")),
        (None, Some("ä000000000000000000000000000000000000000000000000000000000000000")),
        (Some(TOKEN), Some(hex.as_str())),
    ] {
        let e = agent("builder", &none, token.map(secret).as_ref(), digest, Some(1)).map(|_| ()).expect_err("refused");
        assert!(e.starts_with("agent `builder`: ") && token.is_none_or(|t| t.is_empty() || !e.contains(t)), "{e}");
    }
    assert!(agent("a b", &none, Some(&secret(TOKEN)), None, Some(1)).is_err());
}

#[test]
fn an_entry_without_a_value_still_says_which_hosts_are_its_own() {
    let read = |name: &str, custom: &[(&str, &str)], rules: &DiscoverRules| {
        let custom = custom.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let found = Found { folder: "kv", name, custom: &custom, version: None, empty: true, field_names: &[], plain: &|_| None };
        credential(&found, rules)
    };
    let plain = DiscoverRules::default();
    let d = read("internal", &[("allowed_domains", "a.example")], &plain).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!((domains(&d), d.entry.terms.enabled, d.reference.field()), (vec!["a.example".to_owned()], true, "api_key"));
    let d = read("internal", &[("allowed_domains", "a.example"), ("field", "own")], &plain).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(d.reference.field(), "own");
    // Its fields may have said more.
    let d = read("openrouter", &[], &with_fields()).unwrap_or_else(|e| panic!("{e}"));
    assert!(!d.entry.terms.enabled && !d.entry.terms.allowed_domains.is_empty());
    assert!(read("internal", &[], &with_fields()).is_err());
}

#[test]
fn a_value_that_says_its_own_terms_goes_by_these_alone() {
    let d = entry("openrouter", &[], KEY).good();
    assert_eq!(d.reference.version(), None);
    let pinned = entry("openrouter", &[], KEY).read(&with_fields()).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(pinned.reference.to_string(), "secret/keyhatch/openrouter#api_key?version=3");
    assert_ne!(pinned.entry.version, d.entry.version);
    for value in [&[("a?version=3", "")][..], &[("a?version=4", "")][..]] {
        assert!(entry("openrouter", &[], value).read(&with_fields()).is_err(), "{value:?}");
    }
}

#[test]
fn a_token_that_is_put_back_is_another_generation() {
    let at = |version| agent("builder", &BTreeMap::new(), Some(&secret(TOKEN)), None, version).unwrap_or_else(|e| panic!("{e}")).generation;
    assert!(at(Some(1)) == at(Some(1)) && at(Some(1)) != at(Some(3)) && at(None) == at(None) && at(None) != at(Some(1)));
}
