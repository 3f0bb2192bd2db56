//! Worker ticks: reconcilers without input.
