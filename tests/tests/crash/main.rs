//! What the broker leaves behind when it is killed, told to stop, out of disk or cut off, held against what was
//! written down outside it.
//!
//! The broker is the real binary with its fail points; whatever a client received or asked for is in a
//! [`witness::Witness`] of the test's own process. After each restart the ledger must agree with it, and with itself.
//! `tests/chaos/run NAME` runs one experiment.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic is how a test says that something is wrong"
)]

mod backup;
mod caller;
mod certificates;
mod chance;
mod clock;
mod commits;
mod disk;
mod drain;
mod exec;
mod house;
mod io;
mod issuer_trouble;
mod keys;
mod ledger;
mod moments;
mod points;
mod process;
mod remote;
mod repeats;
mod sets;
mod siege;
mod starts;
mod starvation;
mod trust;
mod witness;
