//! Buildkite: the agent asks for an OIDC token.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use zeroize::Zeroizing;

use super::{Proof, ProofContext, ProofError, ProofFuture, ProofSource};

const NAME: &str = "buildkite";
const DEADLINE: Duration = Duration::from_secs(20);

/// `buildkite-agent oidc request-token`, in a Buildkite job. Every proof is fresh.
///
/// The agent's own access stays with the job: a child process that can run the agent can fetch proofs too.
#[derive(Clone, Debug, Default)]
pub struct Buildkite {
    _private: (),
}

impl Buildkite {
    /// The agent on the job's `PATH`.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

async fn request(audience: &str) -> Result<Proof, ProofError> {
    let refused = |reason: String| ProofError::Refused { name: NAME, reason };
    let asking = Command::new("buildkite-agent")
        .args(["oidc", "request-token", "--audience", audience])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(DEADLINE, asking)
        .await
        .map_err(|_| refused("buildkite-agent did not answer in time".to_owned()))?
        .map_err(|error| refused(format!("buildkite-agent cannot be run: {error}")))?;
    let stdout = Zeroizing::new(output.stdout);
    if !output.status.success() {
        return Err(refused(format!("buildkite-agent ended with {}", output.status)));
    }
    Proof::new(std::str::from_utf8(&stdout).map_err(|_| ProofError::Malformed)?)
}

impl ProofSource for Buildkite {
    fn name(&self) -> &str {
        NAME
    }

    fn refreshable(&self) -> bool {
        true
    }

    fn fetch<'a>(&'a self, context: &'a ProofContext<'a>) -> ProofFuture<'a> {
        Box::pin(request(context.audience))
    }
}
