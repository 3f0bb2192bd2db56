//! The testing kit: doubles that tests own, sample data, and one conformance suite per port that every adapter runs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "test code: a broken expectation must stop the test"
)]

mod clock;
mod entropy;
pub mod sample;

pub use clock::MockClock;
pub use entropy::SeededEntropy;
