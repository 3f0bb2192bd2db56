//! The `x509` backend.
