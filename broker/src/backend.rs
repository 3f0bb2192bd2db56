//! Credential backends: one file or folder a kind.

pub mod jwt;
mod parameters;
mod published;
pub mod x509;

pub use published::Published;
