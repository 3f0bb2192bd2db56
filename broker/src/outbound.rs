//! Bounded outbound HTTP: every call has a deadline and a size cap, and follows no redirect.
