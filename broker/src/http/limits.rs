//! What one request, and all of them together, may take.

use std::time::Duration;

/// Limits of the API listener's requests. Those of its connections are the listener's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpLimits {
    /// Largest body in bytes. Larger ones are refused before they are held.
    pub max_body_bytes: usize,
    /// Largest body that publishes a bundle, of somebody who may: 16 MiB of text and the escapes of JSON.
    pub max_bundle_body_bytes: usize,
    /// Deepest nesting of a JSON body. The contract's deepest is 3; parsers have died of deep ones.
    pub max_json_depth: usize,
    /// Most parameters of a form or a query.
    pub max_parameters: usize,
    /// Most requests at work at once. More are refused at once: a queue would only make every answer late.
    pub max_in_flight: usize,
    /// Most requests at work besides those, of the kind that ends or oversees what is there: somebody who revokes must
    /// not wait for a flood of exchanges to pass.
    pub max_control_in_flight: usize,
    /// How long a request may take, its body included: a body that trickles in holds a place for no longer.
    pub request_timeout: Duration,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            max_body_bytes: 64 * 1024,
            max_bundle_body_bytes: 24 * 1024 * 1024,
            max_json_depth: 16,
            max_parameters: 64,
            max_in_flight: 1_024,
            max_control_in_flight: 128,
            request_timeout: Duration::from_secs(30),
        }
    }
}
