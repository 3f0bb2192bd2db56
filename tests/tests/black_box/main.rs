//! Hallpass from outside: the real binary, real issuers, real HTTP; the truth is read from the database beside it.
//!
//! A comment `CASE ABC-123` above a test names the case of `cases/catalogue.json` that it runs.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic is how a test says that something is wrong"
)]

mod api;
mod attestations;
mod audit_log;
mod catalogue;
mod command_line;
mod commands;
mod comparing;
mod configuration;
mod credentials;
mod delegation;
mod description;
mod endpoints;
mod exchange;
mod exports;
mod issuers;
mod keys;
mod kinds;
mod limits;
mod lists;
mod metrics;
mod namesakes;
mod offline;
mod offline_root;
mod operator;
mod possession;
mod proxies;
mod publishing;
mod readiness;
mod replay;
mod requirements;
mod rotation;
mod secrets;
mod sets;
mod spiffe;
mod tampering;
mod third_party;
mod tls;
mod traces;
mod transit;
mod wrapping;

use hallpass_tests::config::{AUDIENCE, Setup};
use hallpass_tests::{Answer, Broker, Exchange, Issuer, SigningKey};
use serde_json::Value;

/// A workload that the standard policy lets have the open roles.
const WORKLOAD: &str = "repo:acme@111/app@222:ref:refs/heads/main";

/// One issuer with one key, and a broker that trusts it.
struct House {
    issuer: Issuer,
    key: SigningKey,
    broker: Broker,
}

impl House {
    async fn open() -> Self {
        Self::open_with(|setup| setup).await
    }

    async fn open_with(change: impl FnOnce(Setup) -> Setup) -> Self {
        let (issuer, key) = issuer_with_key().await;
        let broker = Broker::start(&change(Setup::trusting(&[("ci", &issuer)]))).await;
        Self { issuer, key, broker }
    }

    /// The broker starts after this has changed how the issuer behaves, so that it never saw it behave well.
    async fn open_after(change: impl FnOnce(&Issuer, &SigningKey)) -> Self {
        let (issuer, key) = issuer_with_key().await;
        change(&issuer, &key);
        let broker = Broker::start(&Setup::trusting(&[("ci", &issuer)])).await;
        Self { issuer, key, broker }
    }

    fn claims(&self) -> Value {
        self.issuer.claims(AUDIENCE, WORKLOAD)
    }

    /// A fresh proof of the workload.
    fn proof(&self) -> String {
        self.key.sign(&self.claims())
    }

    /// A fresh proof of somebody else.
    fn proof_of(&self, subject: &str) -> String {
        self.key.sign(&self.issuer.claims(AUDIENCE, subject))
    }

    async fn exchange(&self, proof: &str) -> Answer {
        self.broker.exchange(&Exchange::of(proof)).await
    }

    /// A credential and its grant.
    async fn credential(&self) -> Answer {
        let answer = self.exchange(&self.proof()).await;
        answer.assert_status(200);
        answer
    }

    /// Asserts that an exchange was refused for this reason, left no grant and exactly one audit entry.
    #[track_caller]
    fn assert_refused_for(&self, answer: &Answer, status: u16, error: &str, reason: &str, grants: usize) {
        answer.assert_refused(status, error);
        let store = self.broker.store();
        assert_eq!(store.reasons_of(answer.request_id()), [reason], "{}", answer.text);
        assert_eq!(store.grant_count(), grants, "a refused request left a grant");
    }
}

async fn issuer_with_key() -> (Issuer, SigningKey) {
    let key = SigningKey::es256("key-1");
    (Issuer::start(&[&key]).await, key)
}
