//! Values with a lease: users of a real PostgreSQL, made and dropped by Vault's database engine.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use super::stage::{HOST, Load, Stage};
use crate::support::origin::Origin;
use crate::support::postgres::{Made, Postgres};
use crate::support::world::{HOSTS, configuration};
use crate::support::{Bao, Home, Serve, within};

/// What the origin was shown, and when, since 1970.
type Shown = Arc<Mutex<Vec<(Duration, String)>>>;

/// An origin that writes down which value each request carries, and refuses those of the list with a 401.
fn origin(shown: &Shown, refused: &Arc<Mutex<BTreeSet<String>>>) -> Origin {
    let (shown, refused) = (Arc::clone(shown), Arc::clone(refused));
    Origin::start(&HOSTS, move |exchange| {
        exchange.read_body()?;
        let value = exchange.request.values("authorization").concat().trim_start_matches("Bearer ").to_owned();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        shown.lock().unwrap().push((now, value.clone()));
        exchange.json(if refused.lock().unwrap().contains(&value) { 401 } else { 200 }, "{}")
    })
}

/// Vault with a database engine, an origin, a serve.
struct Leased {
    stage: Stage,
    postgres: Postgres,
    shown: Shown,
    refused: Arc<Mutex<BTreeSet<String>>>,
}

impl Leased {
    /// The role `role` gives users that live so many seconds; each credential is for a host and refers to a path and a field.
    /// The variables are made of the server.
    #[track_caller]
    fn new(test: &str, ttl: u32, max_ttl: u32, credentials: &[(&str, &str)], vault: &str, login: impl Fn(&Bao, &Home) -> String) -> Option<Self> {
        let bao = Bao::dev(test)?;
        let postgres = Postgres::start(test)?;
        postgres.join(&bao);
        Postgres::role(&bao, "role", ttl, max_ttl);
        let (shown, refused) = (Shown::default(), Arc::default());
        let origin = origin(&shown, &refused);
        let home = Home::with_key_file("");
        let auth = login(&bao, &home);
        home.configure(&configuration(&home, &origin, &format!("[vault]\naddress = \"{}\"\n{vault}\n{auth}", bao.addr())));
        for (host, reference) in credentials {
            let name = host.replace('.', "-");
            home.ok(&["credential", "add", &name, "--type", "bearer", "--allow", host, "--vault", reference]);
        }
        let token = bao.root_token().to_owned();
        let serve = Serve::start_with(&home, &[], &[("VAULT_TOKEN", &token)]);
        Some(Self { stage: Stage { serve, origin, home, bao }, postgres, shown, refused })
    }

    /// With root's token.
    #[track_caller]
    fn simple(test: &str, ttl: u32, max_ttl: u32, vault: &str) -> Option<Self> {
        Self::new(test, ttl, max_ttl, &[(HOST, "database/creds/role#username")], vault, |_, _| String::new())
    }

    /// What a request carries that is made now.
    #[track_caller]
    fn carried(&self, host: &str) -> String {
        let reply = self.stage.agent().get(host, "/");
        assert_eq!(reply.status, 200, "{}", reply.text());
        self.shown.lock().unwrap().last().unwrap().1.clone()
    }

    /// How often others than the test asked Vault for a new user.
    #[track_caller]
    fn reads(&self) -> usize {
        self.stage.bao.requests("database/creds/")
    }

    /// Every request carried the name of a user who was there at that moment.
    #[track_caller]
    fn nobody_was_dropped_before(&self) -> BTreeMap<String, (Duration, Duration)> {
        let made: BTreeMap<String, Made> = self.postgres.made().into_iter().map(|made| (made.user.clone(), made)).collect();
        let mut used = BTreeMap::<String, (Duration, Duration)>::new();
        for (at, user) in self.shown.lock().unwrap().iter() {
            let made = made.get(user).unwrap_or_else(|| panic!("{user:?} is a user: {made:?}"));
            assert!(made.from <= *at && made.to.is_none_or(|to| *at < to), "at {at:?}: {made:?}");
            let span = used.entry(user.clone()).or_insert((*at, *at));
            *span = (span.0.min(*at), span.1.max(*at));
        }
        used
    }

    /// The user is not there any more.
    #[track_caller]
    fn is_dropped(&self, user: &str, limit: Duration) {
        within(limit, "the user is dropped", || (!self.postgres.users().iter().any(|u| u == user)).then_some(()));
    }
}

#[test]
fn a_leased_value_is_renewed_and_then_read_anew_before_it_ends() {
    let test = "vault::leases::a_leased_value_is_renewed_and_then_read_anew_before_it_ends";
    let Some(leased) = Leased::simple(test, 4, 10, "") else { return };
    let load = Load::start(&leased.stage, 4, 100);
    within(Duration::from_secs(60), "three users", || (leased.postgres.made().len() >= 3).then_some(()));
    let answers = load.stop();
    assert_eq!(answers.keys().collect::<Vec<_>>(), [&200], "{answers:?}");
    let used = leased.nobody_was_dropped_before();
    assert_eq!(leased.reads(), leased.postgres.made().len(), "a read is a user, and no other question of the kind");
    let longest = used.values().map(|(from, to)| *to - *from).max().unwrap();
    assert!(longest > Duration::from_secs(5) && longest < Duration::from_secs(10), "renewed beyond its four seconds: {longest:?}");
    assert!(leased.stage.bao.requests("sys/leases/renew") >= 2);
}

#[test]
fn a_lease_that_may_not_be_renewed_is_read_anew() {
    let test = "vault::leases::a_lease_that_may_not_be_renewed_is_read_anew";
    let policy = "path \"database/creds/role\" { capabilities = [\"read\"] }\n\
                  path \"auth/token/lookup-self\" { capabilities = [\"read\"] }\n";
    let token = |bao: &Bao, home: &Home| {
        bao.policy("bare", policy);
        let made = bao.api("POST", "auth/token/create", serde_json::json!({ "policies": ["bare"], "no_default_policy": true, "ttl": "1h" }));
        let file = home.outside().join("token");
        std::fs::write(&file, made["auth"]["client_token"].as_str().unwrap()).unwrap();
        format!("[vault.auth]\nmethod = \"token\"\ntoken_file = \"{}\"\n", file.display())
    };
    let Some(leased) = Leased::new(test, 4, 60, &[(HOST, "database/creds/role#username")], "", token) else { return };
    let load = Load::start(&leased.stage, 4, 100);
    within(Duration::from_secs(60), "four users", || (leased.postgres.made().len() >= 4).then_some(()));
    let answers = load.stop();
    assert_eq!(answers.keys().collect::<Vec<_>>(), [&200], "{answers:?}");
    let used = leased.nobody_was_dropped_before();
    assert!(used.len() >= 3 && used.values().all(|(from, to)| *to - *from < Duration::from_secs(4)), "{used:?}");
}

#[test]
fn two_fields_of_one_path_are_of_one_user() {
    let test = "vault::leases::two_fields_of_one_path_are_of_one_user";
    let credentials = [(HOST, "database/creds/role#username"), ("api.example.com", "database/creds/role#password")];
    let Some(leased) = Leased::new(test, 3600, 7200, &credentials, "", |_, _| String::new()) else { return };
    let (user, password) = (leased.carried(HOST), leased.carried("api.example.com"));
    let made = leased.postgres.made();
    assert_eq!((made.len(), leased.reads()), (1, 1), "{made:?}");
    assert_eq!((made[0].user.as_str(), made[0].password.as_str()), (user.as_str(), password.as_str()));
    let other = leased.postgres.users();
    assert_eq!(other, [user]);
    // Neither is anywhere in the home or the log.
    for (path, bytes) in leased.stage.home.files() {
        assert!(!crate::support::holds(&bytes, &password), "{}", path.display());
    }
    assert!(!leased.stage.serve.log().contains(&password));
}

#[test]
fn a_401_reads_anew_and_retires_the_old_lease() {
    let test = "vault::leases::a_401_reads_anew_and_retires_the_old_lease";
    let Some(leased) = Leased::simple(test, 3600, 7200, "") else { return };
    let first = leased.carried(HOST);
    leased.refused.lock().unwrap().insert(first.clone());
    assert_eq!(leased.stage.agent().get(HOST, "/").status, 401);
    let second = leased.carried(HOST);
    assert_ne!(first, second, "the very next request carries another user");
    assert_eq!(leased.postgres.users(), [first.clone(), second.clone()], "what is on its way with the first still works");
    leased.is_dropped(&first, Duration::from_secs(45));
    assert_eq!((leased.postgres.users(), leased.reads()), (vec![second.clone()], 2));
    assert_eq!(leased.carried(HOST), second);
}

#[test]
fn a_401_while_vault_is_sealed_is_not_forgotten() {
    let test = "vault::leases::a_401_while_vault_is_sealed_is_not_forgotten";
    let Some(leased) = Leased::simple(test, 3600, 7200, "") else { return };
    let first = leased.carried(HOST);
    leased.stage.bao.seal();
    leased.refused.lock().unwrap().insert(first.clone());
    let agent = leased.stage.agent();
    assert_eq!(agent.get(HOST, "/").status, 401);
    within(Duration::from_secs(5), "Vault was asked in vain", || (leased.stage.metric("keyhatch_vault_paths_stale") == 1).then_some(()));
    leased.stage.bao.unseal();
    within(Duration::from_secs(8), "another user", || (agent.get(HOST, "/").status == 200).then_some(()));
    assert_ne!(leased.carried(HOST), first);
}

#[test]
fn a_lease_ends_with_its_token_and_is_replaced_before() {
    let test = "vault::leases::a_lease_ends_with_its_token_and_is_replaced_before";
    let login = |bao: &Bao, home: &Home| {
        bao.policy(
            "leased",
            "path \"database/creds/role\" { capabilities = [\"read\"] }\npath \"sys/leases/renew\" { capabilities = [\"update\"] }\n\
             path \"sys/leases/revoke\" { capabilities = [\"update\"] }\n",
        );
        let (role, secret) = bao.approle("keyhatch", &["leased"], "4s", "8s");
        let file = home.outside().join("secret-id");
        std::fs::write(&file, secret).unwrap();
        format!("[vault.auth]\nmethod = \"approle\"\nrole_id = \"{role}\"\nsecret_id_file = \"{}\"\n", file.display())
    };
    let Some(mut leased) = Leased::new(test, 3600, 7200, &[(HOST, "database/creds/role#username")], "", login) else { return };
    let load = Load::start(&leased.stage, 4, 100);
    within(Duration::from_secs(60), "five users", || (leased.postgres.made().len() >= 5).then_some(()));
    let answers = load.stop();
    assert_eq!(answers.keys().collect::<Vec<_>>(), [&200], "{answers:?}");
    leased.nobody_was_dropped_before();
    let (users, logins) = (leased.postgres.made().len() as u64, leased.stage.metric("keyhatch_vault_logins_total"));
    assert!(users.abs_diff(logins) <= 1, "one user for each token: {users} users, {logins} log-ins");
    assert_eq!(leased.stage.metric("keyhatch_vault_login_failures_total"), 0);
    leased.stage.serve.stop();
    within(Duration::from_secs(5), "nobody is left", || leased.postgres.users().is_empty().then_some(()));
}

#[test]
fn what_is_removed_or_stopped_is_revoked() {
    let test = "vault::leases::what_is_removed_or_stopped_is_revoked";
    let credentials = [(HOST, "database/creds/role#username"), ("api.example.com", "database/creds/other#username")];
    let other = |bao: &Bao, _: &Home| {
        Postgres::role(bao, "other", 3600, 7200);
        String::new()
    };
    let Some(mut leased) = Leased::new(test, 3600, 7200, &credentials, "", other) else { return };
    let (first, second) = (leased.carried(HOST), leased.carried("api.example.com"));
    leased.stage.home.ok(&["credential", "remove", "openrouter-ai"]);
    leased.is_dropped(&first, Duration::from_secs(5));
    assert_eq!(leased.carried("api.example.com"), second);
    // Disabled is as good as removed; enabled, it is read anew.
    leased.stage.home.ok(&["credential", "disable", "api-example-com"]);
    leased.is_dropped(&second, Duration::from_secs(5));
    leased.stage.home.ok(&["credential", "enable", "api-example-com"]);
    let third = within(Duration::from_secs(5), "a third user", || {
        let reply = leased.stage.agent().get("api.example.com", "/");
        (reply.status == 200).then(|| leased.shown.lock().unwrap().last().unwrap().1.clone())
    });
    assert_eq!(leased.postgres.users(), [third]);
    leased.stage.serve.stop();
    assert_eq!(leased.postgres.users(), Vec::<String>::new(), "revoked before the process ended");
}

#[test]
fn a_lease_that_cannot_be_revoked_at_once_is_revoked_later() {
    let test = "vault::leases::a_lease_that_cannot_be_revoked_at_once_is_revoked_later";
    let Some(leased) = Leased::simple(test, 3600, 7200, "") else { return };
    let user = leased.carried(HOST);
    leased.stage.bao.seal();
    let errors = || leased.stage.metric("keyhatch_vault_errors_total");
    let before = errors();
    leased.stage.home.ok(&["credential", "remove", "openrouter-ai"]);
    within(Duration::from_secs(5), "it was tried", || (errors() > before).then_some(()));
    leased.stage.bao.unseal();
    leased.is_dropped(&user, Duration::from_secs(15));
}

#[test]
fn in_an_outage_a_value_is_used_until_its_lease_ends_and_no_longer() {
    let test = "vault::leases::in_an_outage_a_value_is_used_until_its_lease_ends_and_no_longer";
    let Some(leased) = Leased::simple(test, 8, 3600, "max_stale = \"1h\"\n") else { return };
    let load = Load::start(&leased.stage, 4, 100);
    let first = within(Duration::from_secs(10), "a user", || leased.shown.lock().unwrap().first().cloned()).1;
    leased.stage.bao.seal();
    let down = Instant::now();
    let ended = within(Duration::from_secs(30), "its end", || load.first(503, down));
    // It was renewed at two thirds of its life at the latest.
    assert!(ended - down > Duration::from_millis(1500) && ended - down < Duration::from_secs(9), "{:?}", ended - down);
    assert!(leased.stage.serve.log().contains("database/creds/role: requests that need it are refused"), "{}", leased.stage.serve.log());
    leased.stage.bao.unseal();
    let up = Instant::now();
    let back = within(Duration::from_secs(20), "service is back", || load.first(200, up));
    assert!(back - up < Duration::from_secs(5), "{:?}", back - up);
    drop(load);
    let used = leased.nobody_was_dropped_before();
    assert!(used.len() == 2 && used.contains_key(&first), "{used:?}");
}

#[test]
fn a_token_that_is_lost_takes_its_leases_with_it() {
    let test = "vault::leases::a_token_that_is_lost_takes_its_leases_with_it";
    let token = |bao: &Bao, home: &Home| {
        let file = home.outside().join("token");
        // It cannot be renewed beyond six seconds, and the lease would live for an hour.
        std::fs::write(&file, bao.token(&["root"], "6s", Some("6s"))).unwrap();
        format!("[vault.auth]\nmethod = \"token\"\ntoken_file = \"{}\"\n", file.display())
    };
    let credentials = [(HOST, "database/creds/role#username")];
    let Some(leased) = Leased::new(test, 3600, 7200, &credentials, "max_stale = \"1h\"\n", token) else { return };
    let load = Load::start(&leased.stage, 4, 100);
    let begin = Instant::now();
    let ended = within(Duration::from_secs(30), "its end", || load.first(503, begin));
    assert!(ended - begin < Duration::from_secs(8), "{:?}", ended - begin);
    let file = leased.stage.home.outside().join("token");
    std::fs::write(&file, leased.stage.bao.root_token()).unwrap();
    within(Duration::from_secs(10), "service with the next token", || load.first(200, ended + Duration::from_secs(1)));
    drop(load);
    let used = leased.nobody_was_dropped_before();
    assert_eq!(used.len(), 2, "{used:?}");
}
