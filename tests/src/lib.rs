//! Harness of the black-box suites: it runs Hallpass as its users do.
//!
//! A [`Broker`] is the real binary on a throwaway folder and free loopback ports; an [`Issuer`] is a real OIDC issuer
//! whose answers a test can bend; a [`Store`] reads the database beside the broker, for the truth that no answer tells.
//! Nothing here waits by sleeping: [`eventually`] awaits a condition until a deadline.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic is how a test says that something is wrong"
)]

mod answer;
mod broker;
pub mod component;
pub mod config;
pub mod contract;
pub mod estate;
pub mod forge;
mod issuer;
mod journal;
mod key;
pub mod metrics;
pub mod ministack;
pub mod openbao;
pub mod port;
mod possession;
pub mod postgres;
pub mod process;
pub mod relay;
mod store;
pub mod third_party;
pub mod verifier;
mod wait;

pub use answer::{Answer, Exchange};
pub use broker::Broker;
pub use issuer::{Behaviour, Document, Issuer, Request};
pub use journal::Journal;
pub use key::{SigningKey, random_bytes};
pub use possession::Prover;
pub use store::{Row, Store, id};
pub use wait::eventually;

/// Whether the stated sizes are asked for (`tests/run --full`) instead of those for every day.
#[must_use]
pub fn full() -> bool {
    std::env::var_os("HALLPASS_TESTS_FULL").is_some()
}

/// `stated` where the stated sizes are asked for, else `daily`.
#[must_use]
pub fn size(daily: usize, stated: usize) -> usize {
    if full() { stated } else { daily }
}

/// Seconds since 1970 by the system's clock, which is also the broker's: black-box tests share its time.
#[must_use]
pub fn unix_now() -> i64 {
    unix_millis() / 1000
}

/// Milliseconds since 1970 by the same clock: a record holds its instants so.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "proofs that a real broker accepts are dated by the real clock")]
pub fn unix_millis() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
