//! The wire types speak exactly the JSON of the contract.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that meets what it did not expect has failed"
)]

use hallpass_sdk::wire::{
    AbandonRequest, AuditEntry, CreateGrant, CreateGrantResponse, Credential, DecisionAnswer, DecisionRequest,
    Duration, Grant, GrantQuery, GrantState, Introspection, Outcome, Owner, Page, Problem, RenewRequest,
    RevocationClass, RevokeRequest, Role, TokenError, TokenResponse, WhoAmI,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

const AT: &str = "2026-01-31T09:00:00Z";

/// What is read is written back the same.
fn round_trip<T: Serialize + DeserializeOwned>(golden: Value) -> T {
    let read: T = serde_json::from_value(golden.clone()).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), golden);
    read
}

fn grant() -> Value {
    json!({
        "id": "gr_1", "state": "revoking", "role": "payments/prod/deploy", "backend": "aws-prod", "environment": "prod",
        "owner": "payments", "owner_contacts": ["payments@corp.example"], "purpose": "deploy 4f2c to prod",
        "ticket": "CHG-1234",
        "identity": {"issuer": "github", "kind": "workload", "subject": "repo:acme/shop:environment:prod",
            "attributes": {"repository_visibility": "private"}},
        "provenance": {"repository": "acme/shop", "repository_id": "42", "ref": "refs/heads/main", "ref_protected": true,
            "commit": "4f2c", "run": "7", "run_attempt": "1", "attestation_digests": ["sha256:00"]},
        "decision": {"policy_revision": "sha256:11", "determining_policies": ["deploy"],
            "obligations": {"max_ttl": "15m"}},
        "approvals": [{"approver": {"issuer": "sso", "kind": "operator", "subject": "ada", "attributes": {}},
            "time": AT, "digest": null}],
        "terms": {"ttl": "10m", "bound": "request", "bounds": {"request": "10m", "role": "1h"}, "scope": ["a"],
            "parameters": {"account": "1"}},
        "created_at": AT, "activated_at": AT, "end_at": AT, "expires_at": AT, "max_expires_at": AT, "ended_at": null,
        "cause": "requested", "last_seen_at": null,
        "revocation": {"class": "fenced", "fenced_at": AT, "confirmed_at": null, "attempts": 1, "retry_at": AT,
            "last_error": null, "exposure_seconds": 30},
        "parent": null, "links": {"self": "/v1/grants/gr_1"}
    })
}

#[test]
fn a_grant_answers_everything_in_the_names_of_the_contract() {
    let read: Grant = round_trip(grant());
    assert_eq!((read.state, read.revocation.class), (GrantState::Revoking, RevocationClass::Fenced));
    assert_eq!(read.provenance.git_ref.as_deref(), Some("refs/heads/main"));
}

#[test]
fn every_state_has_its_word() {
    for word in ["pending", "active", "revoking", "revoked", "expired", "failed", "abandoned"] {
        let state: GrantState = round_trip(json!(word));
        assert_eq!(state.as_str(), word);
        assert_eq!(state.is_over(), !["pending", "active", "revoking"].contains(&word));
    }
}

#[test]
fn every_credential_has_its_type_and_fields() {
    for golden in [
        json!({"type": "jwt", "expires_at": AT, "token": "t"}),
        json!({"type": "x509", "expires_at": AT, "certificate_chain": "c", "private_key": "k", "trust_bundle": "b"}),
        json!({"type": "x509", "expires_at": AT, "certificate_chain": "c", "trust_bundle": "b"}),
        json!({"type": "vault_token", "expires_at": AT, "token": "t"}),
        json!({"type": "aws", "expires_at": AT, "access_key_id": "i", "secret_access_key": "k", "session_token": "t",
            "region": "eu-west-1"}),
        json!({"type": "gcp", "expires_at": AT, "access_token": "t"}),
        json!({"type": "azure", "expires_at": AT, "access_token": "t"}),
        json!({"type": "github", "expires_at": AT, "token": "t"}),
        json!({"type": "kubernetes", "expires_at": AT, "token": "t", "server": "https://k", "ca": "c"}),
        json!({"type": "database", "expires_at": AT, "username": "u", "password": "p", "host": "h", "port": 5432,
            "database": "d", "url": "postgres://u:p@h:5432/d"}),
        json!({"type": "ssh", "expires_at": AT, "certificate": "c"}),
        json!({"type": "vault_secret", "expires_at": AT, "data": {"a": "b", "n": {"x": [1]}}}),
    ] {
        let credential: Credential = round_trip(golden.clone());
        assert_eq!(credential.kind(), golden["type"]);
        assert_eq!(credential.expires_at().unwrap().to_string(), AT);
    }
}

#[test]
fn a_credential_does_not_print() {
    let golden = json!({"type": "aws", "expires_at": AT, "access_key_id": "i", "secret_access_key": "hunter2",
        "session_token": "hunter2"});
    let credential: Credential = serde_json::from_value(golden.clone()).unwrap();
    assert!(!format!("{credential:?}").contains("hunter2"));
    let response: CreateGrantResponse =
        serde_json::from_value(json!({"grant": grant(), "credential": golden})).unwrap();
    assert!(!format!("{response:?}").contains("hunter2"));
}

#[test]
fn requests_carry_every_field_of_the_contract() {
    let request: CreateGrant = round_trip(json!({
        "role": "payments/prod/deploy", "purpose": "deploy 4f2c to prod", "ttl": "10m", "ticket": "CHG-1234",
        "scope": ["s"], "csr": "-----BEGIN CERTIFICATE REQUEST-----",
        "exception": {"kind": "break_glass", "reason": "outage"}, "attestations": ["a"], "actor_token": "t",
        "actor_certificate": true, "task": "k", "ends_when": {"run": true, "heartbeat": "1m"}, "replaces": "gr_0"
    }));
    assert_eq!(request.ttl, Some(Duration::from_secs(600)));
    let _: CreateGrant = round_trip(json!({"role": "r", "purpose": "p"}));
    let seconds: CreateGrant = serde_json::from_value(json!({"role": "r", "ttl": 600})).unwrap();
    assert_eq!(seconds.ttl, Some(Duration::from_secs(600)));
}

#[test]
fn requests_refuse_what_they_do_not_know() {
    fn refuses<T: DeserializeOwned>(mut request: Value) {
        assert!(serde_json::from_value::<T>(request.clone()).is_ok(), "{request}");
        request.as_object_mut().unwrap().insert("tll".to_owned(), json!("1m"));
        assert!(serde_json::from_value::<T>(request).is_err());
    }
    refuses::<CreateGrant>(json!({"role": "r", "purpose": "p"}));
    refuses::<RenewRequest>(json!({}));
    refuses::<RevokeRequest>(json!({"reason": "r"}));
    refuses::<AbandonRequest>(json!({"reason": "r"}));
    refuses::<DecisionRequest>(json!({"role": "r"}));
    refuses::<GrantQuery>(json!({}));
    assert!(serde_json::from_value::<CreateGrant>(json!({"role": "r", "ends_when": {"hartbeat": "1m"}})).is_err());
    assert!(serde_json::from_str::<CreateGrant>(r#"{"role": "a", "role": "b"}"#).is_err(), "duplicate keys");
    assert!(serde_json::from_value::<AbandonRequest>(json!({})).is_err(), "giving up needs a reason");
}

#[test]
fn responses_tolerate_what_a_newer_broker_says() {
    let mut newer = grant();
    newer["tomorrow"] = json!({"a": 1});
    newer["state"] = json!("hibernating");
    newer["revocation"]["class"] = json!("quantum");
    newer["identity"]["assurance"] = json!("high");
    let read: Grant = serde_json::from_value(newer).unwrap();
    assert_eq!((read.state, read.revocation.class), (GrantState::Unknown, RevocationClass::Unknown));

    let unknown: Credential = serde_json::from_value(json!({"type": "passkey", "expires_at": AT, "x": 1})).unwrap();
    assert_eq!(unknown.kind(), "unknown");
}

#[test]
fn answers_about_the_caller_and_policy() {
    let me: WhoAmI = round_trip(json!({
        "issuer": "github", "kind": "workload", "subject": "s", "attributes": {}, "provenance": {"commit": "4f2c"},
        "proof": {"id": "j", "key_id": "k", "expires_at": AT, "audiences": ["https://hallpass.example"]},
        "groups": ["g"]
    }));
    assert_eq!(me.proof.id, "j");
    let question: DecisionRequest = serde_json::from_value(json!({"role": "r"})).unwrap();
    assert_eq!(question.action, "mint");
    let answer: DecisionAnswer = round_trip(json!({
        "outcome": "deny", "policy_revision": "sha256:11", "determining_policies": [], "obligations": {},
        "reason": "no_permit", "detail": "no policy permits it"
    }));
    assert_eq!(answer.outcome, Outcome::Deny);
}

#[test]
fn inventory_audit_and_pages() {
    let page: Page<Role> = round_trip(json!({"items": [{
        "name": "payments/prod/deploy", "digest": "d", "state": "active", "owner": "payments", "description": "d",
        "backend": "aws-prod", "environment": "prod", "ttl": {"default": "15m", "max": "1h"},
        "purpose": {"required": true, "default": null, "pattern": null}, "revocation_class": "fenced",
        "revocation_floor": "fenced", "review_every": "90d", "review_at": AT, "stage": "apply", "tier": "one"
    }], "next_cursor": "c"}));
    assert_eq!(page.items[0].ttl.max, Duration::from_secs(3600));
    let last: Page<Owner> = serde_json::from_value(json!({"items": [
        {"name": "payments", "contacts": ["c"], "members": [{"issuer": "sso", "subject": "ada"}], "active": true}
    ]}))
    .unwrap();
    assert_eq!(last.next_cursor, None);
    let _: AuditEntry = round_trip(json!({
        "log_id": "l", "sequence": 7, "time": AT, "actor": "a", "on_behalf_of": null, "action": "grant.open",
        "object": "gr_1", "outcome": "allow", "reason": null, "decision": "d", "request_id": "r",
        "correlation_id": null, "detail": {"ttl": "10m"}
    }));
}

#[test]
fn refusals_and_oauth() {
    let _: Problem = round_trip(json!({
        "type": "https://hallpass.example/problems/denied", "title": "Denied", "status": 403, "code": "denied",
        "detail": "no policy permits it", "request_id": "r", "step": "decide", "parameter": "role"
    }));
    let _: TokenError = round_trip(json!({"error": "invalid_target", "error_description": "no such role"}));
    let token: TokenResponse = round_trip(json!({
        "access_token": "t", "issued_token_type": "urn:ietf:params:oauth:token-type:jwt", "token_type": "Bearer",
        "expires_in": 600, "grant_id": "gr_1"
    }));
    assert!(!format!("{token:?}").contains("\"t\""));
    let live: Introspection =
        round_trip(json!({"active": true, "sub": "s", "aud": ["a"], "exp": 1, "act": {"sub": "x"}}));
    assert_eq!(live.act.expect("who acts")["sub"], "x");
    let _: Introspection = round_trip(json!({"active": false}));
}
