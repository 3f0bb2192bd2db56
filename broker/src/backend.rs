//! Credential backends: one file or folder a kind.

pub mod guarded;
pub mod jwt;
pub mod measured;
mod parameters;
pub mod postgres;
mod published;
pub mod x509;

pub use published::Published;
