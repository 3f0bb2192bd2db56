//! Policy: Cedar.

pub mod cedar;
