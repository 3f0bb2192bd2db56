//! Credential backends: one file or folder a kind.

pub mod aws;
pub mod azure;
pub mod gcp;
pub mod github;
pub mod guarded;
mod jws;
pub mod jwt;
pub mod kubernetes;
pub mod measured;
pub mod own_identity;
mod parameters;
pub mod postgres;
mod published;
mod rest;
pub mod vault;
pub mod x509;

pub use published::Published;
