//! Credential backends: one file or folder a kind.

pub mod jwt;
mod parameters;
pub mod x509;
