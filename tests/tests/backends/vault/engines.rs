//! What other engines make: certificates, SSH certificates, and secrets that somebody wrote.

use hallpass_core::credential::{CredentialMaterial, IssueOrder};
use hallpass_core::port::{CredentialBackend as _, IssueError, Undone};
use hallpass_core::time::Timestamp;
use hallpass_tests::openbao::OpenBao;
use serde_json::{Value, json};

use super::Lab;

/// Of nobody's.
pub(crate) const PUBLIC_KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDoZ5e9OgVB6IbkzWRn7dkhcBRMM6e1DdgRzkPT7fgEq someone@example.test";

/// A certificate authority at `pki`, with the role `web`, and the policy `pki` that may have certificates of it.
pub(crate) async fn pki(server: &OpenBao) {
    server.mount("pki", "pki").await;
    server.write("sys/mounts/pki/tune", &json!({"max_lease_ttl": "87600h"})).await;
    server.write("pki/root/generate/internal", &json!({"common_name": "Test authority", "ttl": "87600h"})).await;
    let role = json!({"allowed_domains": "example.test", "allow_subdomains": true, "max_ttl": "24h", "key_type": "ec", "key_bits": 256});
    server.write("pki/roles/web", &role).await;
    let policy =
        "path \"pki/issue/web\" { capabilities = [\"update\"] }\npath \"pki/sign/web\" { capabilities = [\"update\"] }";
    server.write("sys/policies/acl/pki", &json!({"policy": policy})).await;
}

pub(crate) fn pki_parameters() -> Value {
    json!({"policies": ["pki"], "path": "pki/issue/web", "data": {"common_name": "app.example.test"}})
}

/// A signer of SSH keys at `ssh`, with the role `deploy`, and the policy `ssh` that may have keys signed by it.
pub(crate) async fn ssh(server: &OpenBao) {
    server.mount("ssh", "ssh").await;
    server.write("ssh/config/ca", &json!({"generate_signing_key": true})).await;
    let role = json!({
        "key_type": "ca", "allow_user_certificates": true, "allowed_users": "deploy", "default_user": "deploy",
        "algorithm_signer": "default", "max_ttl": "24h",
    });
    server.write("ssh/roles/deploy", &role).await;
    let policy = "path \"ssh/sign/deploy\" { capabilities = [\"update\"] }";
    server.write("sys/policies/acl/ssh", &json!({"policy": policy})).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_ends_in_time_and_is_on_the_revocation_list_before_it_is_said_to_be_fenced() {
    let Some(lab) = Lab::open().await else { return };
    pki(&lab.server).await;
    let order = lab.order(1, pki_parameters());
    let (issued, handle) = lab.mint(&order).await.unwrap();
    let CredentialMaterial::X509 { certificate_chain, private_key, trust_bundle } = &issued.material else { panic!() };
    assert!(certificate_chain.contains("BEGIN CERTIFICATE") && trust_bundle.contains("BEGIN CERTIFICATE"));
    assert!(private_key.as_ref().is_some_and(|key| key.expose().contains("PRIVATE KEY")));
    let left = issued.expires_at.since(order.issued_at).as_secs();
    assert!(issued.expires_at <= order.expires_at && left >= 590, "to the second: {left}");

    let revoked = async || {
        let serials = lab.server.list("pki/certs/revoked").await;
        serials.len()
    };
    assert_eq!(revoked().await, 0);
    assert_eq!(lab.backend.revoke(&handle).await, Ok(Undone::Fenced));
    assert_eq!(revoked().await, 1);
    assert_eq!(lab.backend.revoke(&handle).await, Ok(Undone::Fenced), "again");
    assert_eq!(published(&lab.server).await, 1);

    // Of an answer that nobody heard, nobody knows the serial number: nothing is claimed.
    let order = lab.order(2, pki_parameters());
    let planned = lab.backend.plan(&order).unwrap();
    let prepared = lab.backend.prepare(&order, &planned).await.unwrap().unwrap();
    lab.backend.issue(&order, &prepared).await.unwrap();
    assert_eq!(lab.backend.revoke(&prepared).await, Ok(Undone::OnlyTime));
}

/// How many certificates the list that anybody may fetch has.
async fn published(server: &OpenBao) -> usize {
    let list = server.read("pki/issuer/default/crl").await["data"]["crl"].as_str().expect("a list").to_owned();
    let (_, pem) = x509_parser::pem::parse_x509_pem(list.as_bytes()).expect("PEM");
    let (_, list) = x509_parser::parse_x509_crl(&pem.contents).expect("a list");
    list.iter_revoked_certificates().count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_not_said_to_be_fenced_before_the_list_that_verifiers_fetch_names_it() {
    let Some(lab) = Lab::open().await else { return };
    pki(&lab.server).await;
    let later = json!({"auto_rebuild": true, "expiry": "72h", "auto_rebuild_grace_period": "12h"});
    lab.server.write("pki/config/crl", &later).await;
    let (_, handle) = lab.mint(&lab.order(1, pki_parameters())).await.unwrap();
    for _ in 0..2 {
        let undone = lab.backend.revoke(&handle).await.unwrap();
        assert!(matches!(undone, Undone::Fencing { until } if until > lab.clock.now()), "{undone:?}");
    }
    assert_eq!((lab.server.list("pki/certs/revoked").await.len(), published(&lab.server).await), (1, 0));
    lab.server.read("pki/crl/rotate").await;
    assert_eq!(lab.backend.revoke(&handle).await, Ok(Undone::Fenced), "whoever rebuilds it, it is seen there");
    assert_eq!(published(&lab.server).await, 1);

    lab.server.write("pki/config/crl", &json!({"auto_rebuild": false, "disable": true})).await;
    let (_, handle) = lab.mint(&lab.order(2, pki_parameters())).await.unwrap();
    let undone = lab.backend.revoke(&handle).await;
    assert!(!matches!(undone, Ok(Undone::Fenced | Undone::Gone)), "no list, no fence: {undone:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_callers_own_key_is_certified_and_none_where_the_role_makes_it() {
    let Some(lab) = Lab::open().await else { return };
    pki(&lab.server).await;
    let mut parameters = rcgen::CertificateParams::new(vec!["app.example.test".to_owned()]).unwrap();
    parameters.distinguished_name.push(rcgen::DnType::CommonName, "app.example.test");
    let csr = parameters.serialize_request(&rcgen::KeyPair::generate().unwrap()).unwrap().pem().unwrap();
    let sign = json!({"policies": ["pki"], "path": "pki/sign/web", "data": {"common_name": "app.example.test"}});
    let signed = IssueOrder { csr: Some(csr.clone()), ..lab.order(1, sign.clone()) };
    let (issued, _) = lab.mint(&signed).await.unwrap();
    assert!(matches!(&issued.material, CredentialMaterial::X509 { private_key: None, .. }));
    for refused in [lab.order(2, sign), IssueOrder { csr: Some(csr), ..lab.order(3, pki_parameters()) }] {
        let refused = lab.backend.plan(&refused).unwrap_err();
        assert!(matches!(refused, IssueError::Refused { parameter: Some("csr"), .. }), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ssh_certificate_ends_in_time_and_is_never_said_to_be_gone() {
    let Some(lab) = Lab::open().await else { return };
    ssh(&lab.server).await;
    let parameters = json!({"policies": ["ssh"], "path": "ssh/sign/deploy", "data": {"valid_principals": "deploy"}});
    let order = IssueOrder { csr: Some(PUBLIC_KEY.to_owned()), ..lab.order(1, parameters.clone()) };
    let (issued, handle) = lab.mint(&order).await.unwrap();
    let CredentialMaterial::Ssh { certificate } = &issued.material else { panic!("a certificate") };
    assert!(certificate.starts_with("ssh-ed25519-cert-v01@openssh.com "));
    let left = issued.expires_at.since(order.issued_at).as_secs();
    assert!(issued.expires_at <= order.expires_at && left >= 590, "{left}");
    assert_eq!(lab.backend.revoke(&handle).await, Ok(Undone::OnlyTime));
    for key in [None, Some("-----BEGIN CERTIFICATE REQUEST-----".to_owned())] {
        let refused = lab.backend.plan(&IssueOrder { csr: key, ..lab.order(2, parameters.clone()) }).unwrap_err();
        assert!(matches!(refused, IssueError::Refused { parameter: Some("csr"), .. }), "{refused}");
    }
}

// CASE BE-008
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_that_somebody_wrote_is_said_to_be_one_and_how_old_it_is() {
    let Some(lab) = Lab::open().await else { return };
    lab.server.mount_with("kv", json!({"type": "kv", "options": {"version": "2"}})).await;
    lab.server.write("kv/data/app", &json!({"data": {"key": "hunter2"}})).await;
    let policy =
        "path \"kv/data/app\" { capabilities = [\"read\"] }\npath \"secret/app\" { capabilities = [\"read\"] }";
    lab.server.write("sys/policies/acl/kv", &json!({"policy": policy})).await;
    for (path, values, is_versioned) in
        [("kv/data/app", json!({"key": "hunter2"}), true), ("secret/app", json!({"flag": "up"}), false)]
    {
        let order = lab.order(1, json!({"policies": ["kv"], "path": path}));
        let (issued, handle) = lab.mint(&order).await.unwrap();
        let CredentialMaterial::VaultSecret { data } = &issued.material else { panic!("values") };
        let members = data.expose_members();
        assert_eq!((&members["static_secret"], &members["data"]), (&json!(true), &values), "{path}");
        assert_eq!(members["age_seconds"].as_i64().is_some_and(|age| age < 60), is_versioned, "{path}");
        assert_eq!(
            issued.expires_at,
            order.expires_at.min(issued.expires_at),
            "the grant ends, and the secret does not"
        );
        assert_eq!(lab.backend.revoke(&handle).await, Ok(Undone::OnlyTime), "{path}");
    }
    // Whatever it is, it is passed on as it is.
    let odd = json!({"lines": "one\ntwo\r\n", "zero": "a\u{0}b", "nothing": null, "list": [1, {"a": ""}], "long": "x".repeat(60_000)});
    lab.server.write("kv/data/app", &json!({"data": odd})).await;
    let order = lab.order(3, json!({"policies": ["kv"], "path": "kv/data/app"}));
    let (issued, handle) = lab.mint(&order).await.unwrap();
    let CredentialMaterial::VaultSecret { data } = &issued.material else { panic!("values") };
    assert_eq!(data.expose_members()["data"], odd);
    assert!(!format!("{:?}", issued.material).contains("two"), "it prints");
    assert_eq!(lab.backend.revoke(&handle).await, Ok(Undone::OnlyTime));
    let (nothing, now) = (lab.order(2, json!({"policies": ["kv"], "path": "kv/data/none"})), Timestamp::MIN);
    assert!(lab.mint(&nothing).await.is_err() && now < nothing.issued_at);
}
