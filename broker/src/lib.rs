//! The Hallpass broker: transport, adapters of the domain's ports, and the composition root.
//!
//! Bytes come in through [`http`], become domain types at its edge, and meet adapters only through the ports of
//! `hallpass_core::port`. [`compose`] is the one place that names concrete adapters.

pub mod audit;
pub mod backend;
pub mod cli;
pub mod compose;
pub mod config;
pub mod http;
pub mod identity;
pub mod keys;
pub mod outbound;
pub mod policy;
pub mod runtime;
pub mod sigstore;
