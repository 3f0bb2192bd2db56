//! The `jwt` backend.
