//! Credential backends: one file or folder a kind.

pub mod jwt;
pub mod x509;
