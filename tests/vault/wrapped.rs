//! A store that Vault unlocks by a log-in that can be made once.

use super::transit::{STORE, bare, server};
use crate::support::world::{HOSTS, configuration};
use crate::support::{Agent, Origin, Serve, fresh_key};

#[test]
fn a_wrapped_secret_id_opens_the_store_and_is_gone_on_with() {
    let Some(bao) = server("vault::wrapped::a_wrapped_secret_id_opens_the_store_and_is_gone_on_with") else { return };
    bao.policy(
        "all",
        "path \"transit/*\" { capabilities = [\"update\"] }\npath \"secret/*\" { capabilities = [\"read\", \"list\"] }\n\
         path \"auth/token/*\" { capabilities = [\"read\", \"update\"] }",
    );
    let (role_id, _) = bao.approle("keyhatch", &["all"], "1h", "1h");
    let (key, more) = (fresh_key(), fresh_key());
    bao.put("secret/keyhatch/openrouter", &[("api_key", &key)]);
    bao.put("secret/more", &[("k", &more)]);
    let origin = Origin::agreeable(&HOSTS);
    let mut home = bare(&bao, "");
    let file = home.outside().join("wrapped");
    let auth = format!("auth = {{ method = \"approle\", role_id = \"{role_id}\", secret_id_file = \"{}\", wrapped = true }}", file.display());
    for discover in ["discover = \"secret/keyhatch\"\n", ""] {
        home.configure(STORE);
        home.set("VAULT_TOKEN", Some(bao.root_token()));
        if !home.store().exists() {
            home.ok(&["init"]);
            home.ok(&["credential", "add", "later", "--allow", "api.example.com", "--vault", "secret/more#k"]);
        }
        home.configure(&configuration(&home, &origin, &format!("{STORE}[vault]\nrefresh = \"1s\"\n{auth}\n{discover}")));
        home.set("VAULT_TOKEN", None);
        let logins = bao.requests("auth/approle/login");
        std::fs::write(&file, bao.wrapped_secret_id("keyhatch")).unwrap();
        let mut serve = Serve::start(&home);
        let agent = Agent::new(&home, &serve);
        if !discover.is_empty() {
            assert_eq!(agent.get("openrouter.ai", "/api/v1/x").status, 200);
            assert_eq!(origin.last().values("authorization"), [format!("Bearer {key}")]);
        }
        assert_eq!(agent.get("api.example.com", "/").status, 200);
        assert_eq!(origin.last().values("authorization"), [format!("Bearer {more}")]);
        serve.stop();
        assert_eq!(bao.requests("auth/approle/login"), logins + 1, "one log-in: {}", serve.log());
        let ends = bao.asked().iter().filter(|asked| asked.path == "auth/token/revoke-self" && asked.by == "approle").count();
        assert_eq!(ends, logins + 1, "and its end");
        std::fs::write(&file, bao.wrapped_secret_id("keyhatch")).unwrap();
        let said = home.say(&["run", "--", "true"], "");
        assert_eq!(said.code, 0, "{said:?}");
        assert_eq!(bao.requests("auth/approle/login"), logins + 2);
        let ends = bao.asked().iter().filter(|asked| asked.path == "auth/token/revoke-self" && asked.by == "approle").count();
        assert_eq!(ends, logins + 2, "and its end");
    }
}
