//! HTTP: parse, call one service, map.
//!
//! Bytes come in through [`limits`] and the edge, become domain types in the extractors and in `wire`, meet exactly one
//! use-case in a handler, and leave as a wire type or as a failure. Only `problem` knows what status a failure has.
//! The broker's own URLs come from its configured `public_url`; nothing here believes a request header about them.

pub mod certificate_header;
pub mod desk;
mod edge;
mod endpoints;
mod extract;
mod failure;
mod form;
pub mod forwarded;
mod handlers;
mod issuance;
mod json;
pub mod limits;
mod measure;
pub mod openapi;
pub mod places;
mod problem;
mod query;
pub mod router;
pub(crate) mod sources;
mod trace;
mod wire;

pub use endpoints::{Endpoint, Listener, endpoints};
pub use extract::Connection;
pub use limits::HttpLimits;
pub use router::{ApiState, Operations, admin, api, callers, operations};
