//! Worker ticks: reconcilers without input, idempotent, run periodically *and* when nudged. First try, retry, restart
//! and a second replica all take the same path, so that none of them is a special case that is wrong.
//!
//! There are no loops here: the runtime decides when to tick again.

pub mod care;
pub mod checkpoint;
pub mod export;
pub mod revocations;
pub mod step;
pub mod sweep;
