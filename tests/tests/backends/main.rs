//! The backends against what they mint at: real servers, and where there are none, what their documentation records.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic is how a test says that something is wrong"
)]

mod aws;
mod azure;
mod clouds;
mod dev;
mod gcp;
mod github;
mod kubernetes;
mod postgres;
mod vault;
mod whole;
