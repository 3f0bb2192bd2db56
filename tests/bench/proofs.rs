//! Proofs, signed before the clock starts.
#![expect(clippy::indexing_slicing, reason = "a member that JSON does not have reads as null")]

use hallpass_tests::config::AUDIENCE;
use hallpass_tests::{Issuer, SigningKey};
use serde_json::Value;

use crate::wire::Shown;

/// Different workloads that ask.
pub(crate) const WORKLOADS: usize = 100;

/// Signs proofs of many workloads.
pub(crate) struct Proofs<'a> {
    issuer: &'a Issuer,
    key: &'a SigningKey,
}

impl<'a> Proofs<'a> {
    pub(crate) fn of(issuer: &'a Issuer, key: &'a SigningKey) -> Self {
        Self { issuer, key }
    }

    /// A fresh proof of `subject`, with claims of its own.
    pub(crate) fn of_subject(&self, subject: &str, claims: &[(&str, &str)]) -> String {
        let mut all = self.issuer.claims(AUDIENCE, subject);
        for (name, value) in claims {
            all[*name] = Value::from(*value);
        }
        self.key.sign(&all)
    }

    /// Fresh proofs, each with an id of its own.
    pub(crate) fn sign(&self, count: usize) -> Vec<Shown> {
        (0..count).map(|number| Shown::Token(self.one(number))).collect()
    }

    /// A fresh proof of one of the workloads.
    pub(crate) fn one(&self, number: usize) -> String {
        self.of_subject(&format!("repo:acme@111/app{}@222:ref:refs/heads/main", number % WORKLOADS), &[])
    }
}
