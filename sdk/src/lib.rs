//! Hallpass from the caller's side: the wire types that its interfaces speak, and a client built on them.
//!
//! Hallpass is a short-lived credential broker. A workload offers a *proof* of who it is, asks for a *role*, and
//! receives a *credential* that dies on time; the durable record of all that is a *grant*.
//!
//! - [`wire`] holds the types alone, as JSON carries them. It needs no features and no network, so that a broker, a
//!   proxy or a test can share it.
//! - `client` (feature `client`, on by default) finds a proof where it runs, calls the broker over rustls on ring, and
//!   keeps a live credential's grant alive with heartbeats.
//!
//! Invariants kept here: requests refuse unknown fields, responses tolerate them; a secret cannot be printed or
//! cloned, and reaches the wire only from a field that says so.

pub mod wire;

#[cfg(feature = "client")]
pub mod client;

#[cfg(feature = "client")]
pub use client::Client;
