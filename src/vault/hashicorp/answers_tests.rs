use super::*;

fn at(text: &str) -> jiff::Timestamp {
    text.parse().expect("a time")
}

#[test]
fn fields_are_text_numbers_and_booleans() {
    let body = br#"{"data":{"data":{"a":"x\u00e9\"y","n":1.50,"b":true,"o":{"c":1},"l":[1],"z":null},"metadata":{"version":7}},"lease_id":""}"#;
    let mut reading = kv2(body, "p").expect("read").expect("there");
    assert_eq!(reading.version, Some(7));
    assert_eq!(reading.fields.names().collect::<Vec<_>>(), ["a", "b", "n"]);
    for (name, value) in [("a", "xé\"y"), ("b", "true"), ("n", "1.50")] {
        assert!(reading.fields.take(name).expect(name).expose() == value.as_bytes(), "{name}");
    }
    assert!(reading.fields.is_empty() && reading.fields.get("a").is_none());
}

#[test]
fn a_deleted_version_has_no_data() {
    let body = br#"{"data":{"data":null,"metadata":{"deletion_time":"2026-01-01T00:00:00Z","version":1}}}"#;
    assert!(kv2(body, "p").expect("read").is_none());
}

#[test]
fn a_lease_is_one_with_an_id() {
    let leased = plain(br#"{"lease_id":"ssh/creds/r/1","lease_duration":60,"renewable":false,"data":{"key":"k"}}"#, "p").expect("read");
    assert_eq!(leased.lease, Some(Lease { id: "ssh/creds/r/1".into(), duration: Duration::from_secs(60), renewable: false }));
    assert!(plain(br#"{"lease_id":"","lease_duration":2764800,"data":{"key":"k"}}"#, "p").expect("read").lease.is_none());
}

#[test]
fn a_planned_deletion_is_none_yet() {
    let body = br#"{"data":{"current_version":2,"custom_metadata":{"type":"bearer"},"versions":{
        "1":{"deletion_time":"","destroyed":true},"2":{"deletion_time":"2026-06-01T00:00:00.5Z","destroyed":false}}}}"#;
    let before = metadata(body, "p", at("2026-05-31T00:00:00Z")).expect("read");
    assert_eq!((before.version, before.gone, before.custom["type"].as_str()), (2, false, "bearer"));
    assert!(metadata(body, "p", at("2026-06-02T00:00:00Z")).expect("read").gone);
    assert_eq!(before.created, None);
    let body = br#"{"data":{"current_version":1,"versions":{"1":{"created_time":"2026-01-01T00:00:00.1Z"}}}}"#;
    let read = br#"{"data":{"data":{"a":"b"},"metadata":{"created_time":"2026-01-01T00:00:00.1Z","version":1}}}"#;
    let (there, read) = (metadata(body, "p", at("2026-06-02T00:00:00Z")).expect("read"), kv2(read, "p").expect("read").expect("there"));
    assert_eq!((there.created, there.version), (read.created, read.version.expect("a version")));
    let none = metadata(br#"{"data":{"current_version":0,"custom_metadata":null,"versions":{}}}"#, "p", at("2026-06-02T00:00:00Z")).expect("read");
    assert!(none.gone && none.version == 0);
}

#[test]
fn mounts() {
    let of = |path: &str, text: &str| mount(text.as_bytes(), path).expect("read");
    assert_eq!(of("secret/a", r#"{"data":{"path":"secret/","type":"kv","options":{"version":"2"}}}"#).kind, MountKind::KvV2);
    assert_eq!(of("kv/a", r#"{"data":{"path":"kv/","type":"kv","options":null}}"#).kind, MountKind::KvV1);
    assert_eq!(of("kv/a", r#"{"data":{"path":"kv/","type":"kv","options":{"version":"1"}}}"#).kind, MountKind::KvV1);
    let token = of("auth/token/lookup-self", r#"{"data":{"path":"token/","type":"token","options":null}}"#);
    assert_eq!(token, Mount { path: "auth/token/".into(), kind: MountKind::Other("token".into()) });
}

#[test]
fn a_chain_names_each_certificate_once() {
    let body = br#"{"data":{"certificate":"LEAF\n","issuing_ca":"ROOT","ca_chain":["LEAF","ROOT\n"]}}"#;
    assert_eq!(signed(body, "p").expect("read"), SignedCa { certificate: "LEAF".into(), chain: vec!["ROOT".into()] });
}

#[test]
fn an_answer_that_is_none_is_told_without_its_text() {
    for body in [&b"<html>sk-or-v1-secret</html>"[..], b"{}", b"{\"data\":\"sk-or-v1-secret\"}", b""] {
        let error = plain(body, "secret/a").err().expect("refused").to_string();
        assert!(error.contains("secret/a") && !error.contains("sk-or"), "{error}");
    }
}
