//! Loops, signals and clocks: the only place that waits.
