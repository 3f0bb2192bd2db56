//! The testing kit: doubles that tests own, sample data, and one conformance suite per port that every adapter runs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "test code: a broken expectation must stop the test"
)]

mod backend;
pub mod backend_suite;
mod clock;
mod entropy;
mod faulting_store;
mod governance;
mod policy;
pub mod sample;
mod sealer;
mod signer;
mod statement;
pub mod store_suite;
mod verifier;
pub mod verifier_suite;
mod world;

pub use backend::{Call, Credential, Fault, FaultingBackend, Nature};
pub use clock::MockClock;
pub use entropy::SeededEntropy;
pub use faulting_store::{FaultingStore, StoreFault, Write};
pub use governance::FixedGovernance;
pub use policy::{Ruling, ScriptedPolicy};
pub use sealer::TestSealer;
pub use signer::TestSigner;
pub use statement::PlainStatements;
pub use verifier::{FixedReader, FixedVerifier, received};
pub use world::World;
