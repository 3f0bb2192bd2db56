//! Signing keys at rest and in use.
