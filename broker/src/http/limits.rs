//! What one request, and all of them together, may take.

use std::time::Duration;

use super::places::Bounds;

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
    pub in_flight: Bounds,
    /// Most requests at work besides those, of the kind that ends or oversees what is there: somebody who revokes must
    /// not wait for a flood of exchanges to pass.
    pub control_in_flight: Bounds,
    /// Most lists at once, from when they are asked for until they are sent: as many pages are in memory.
    pub lists_in_flight: Bounds,
    /// Most lists for operators besides those.
    pub oversight_in_flight: Bounds,
    /// Lists that are read at once. Another one is read for operators; together they leave some of the store's readers to
    /// exchanges and to whoever ends grants.
    pub list_turns: usize,
    /// How long a list waits for its turn.
    pub turn_timeout: Duration,
    /// How long a request may take, its body included.
    pub request_timeout: Duration,
    /// How long a body may take, before what its size adds: a second for each 16 KiB.
    pub body_timeout: Duration,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            max_body_bytes: 64 * 1024,
            max_bundle_body_bytes: 24 * 1024 * 1024,
            max_json_depth: 16,
            max_parameters: 64,
            in_flight: Bounds { all: 1_024, each: 512 },
            control_in_flight: Bounds { all: 128, each: 64 },
            lists_in_flight: Bounds { all: 32, each: 16 },
            oversight_in_flight: Bounds { all: 8, each: 8 },
            list_turns: 2,
            turn_timeout: Duration::from_secs(2),
            request_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(5),
        }
    }
}

/// The slowest that a body may come in, over its whole length. A mobile line of the last century was faster.
const BODY_BYTES_PER_SECOND: u64 = 16 * 1024;

impl HttpLimits {
    /// How long a body of so many bytes may take to come in. A body that trickles holds a place: the smaller it is, the
    /// shorter. The whole request has [`HttpLimits::request_timeout`] all the same.
    pub(super) fn body_time(&self, bytes: u64) -> Duration {
        self.body_timeout.saturating_add(Duration::from_millis(bytes.saturating_mul(1_000) / BODY_BYTES_PER_SECOND))
    }
}
