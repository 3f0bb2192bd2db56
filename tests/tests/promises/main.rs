//! The promises of the domain, each held against a world in which everything around the broker's core can fail: its
//! backend, its store, its policy, its clock, its randomness. The store is the real one, on SQLite.
//!
//! A test's name begins with the promise that it keeps. The world is `hallpass_core::testing::World`; its backend keeps a
//! journal of what really exists, and that journal is what grants are held against.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic is how a test says that something is wrong"
)]

mod audit;
mod closed;
mod decisions;
mod endings;
mod faults;
mod invariants;
mod lab;
mod machine;
mod prepared;
mod publishing;
mod quarantines;
mod record;
mod renewal;
mod restores;
mod secrets;
mod sets;
mod states;
mod terms;
