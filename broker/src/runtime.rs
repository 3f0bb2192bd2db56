//! Loops, signals and clocks: the only place that waits.

mod care;
pub mod certificates;
pub mod clock;
pub mod control;
pub mod driver;
#[cfg(feature = "failpoints")]
pub mod failpoints;
pub mod governed;
mod hands;
pub mod lifecycle;
pub mod listener;
pub mod telemetry;
pub mod variable;
pub mod vitals;
