//! The HTTP interface over the domain's use-cases and the real store, without a socket: every answer as its caller reads
//! it, and what was written down of it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code: a broken expectation must stop the test"
)]

mod commands;
mod delivery;
mod exchange;
mod grants;
mod house;
mod lists;
mod oauth;
mod openapi;
mod rates;
mod reading;
mod surface;
