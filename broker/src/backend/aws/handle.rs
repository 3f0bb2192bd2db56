//! What is kept to undo a session: which it is, and of which role. No secret.

use hallpass_core::credential::{Handle, IssueOrder};
use hallpass_core::secret::SecretBytes;
use hallpass_core::time::{Timestamp, Ttl};
use serde::{Deserialize, Serialize};

use super::fence::Entry;
use super::parameters::Parameters;
use super::sts::Session;

/// How much later than the grant a session can have been issued, whose answer was lost: the longest that minting takes,
/// and a difference of the clocks.
const LATEST_ISSUE: Ttl = Ttl::from_secs(30);

/// A session, as it is undone.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct SessionHandle {
    kind: String,
    pub(super) role_arn: String,
    /// Its name: the grant's id.
    pub(super) session: String,
    /// In seconds, by AWS's clock where AWS answered, else the latest that can be.
    issued_by: i64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    fences_all_older: bool,
}

impl SessionHandle {
    /// Before AWS was asked.
    pub(super) fn planned(order: &IssueOrder, parameters: &Parameters) -> Self {
        Self {
            kind: "aws".to_owned(),
            role_arn: parameters.role_arn.clone(),
            session: order.grant.to_string(),
            issued_by: order.issued_at.plus(LATEST_ISSUE).as_secs(),
            fences_all_older: parameters.fences_all_older,
        }
    }

    /// After it answered.
    pub(super) fn answered(self, session: &Session) -> Self {
        Self { issued_by: session.issued_at.as_secs(), ..self }
    }

    pub(super) fn read(handle: &Handle) -> Option<Self> {
        serde_json::from_slice(handle.0.expose()).ok().filter(|handle: &Self| handle.kind == "aws")
    }

    pub(super) fn to_handle(&self) -> Option<Handle> {
        serde_json::to_vec(self).ok().map(|bytes| Handle(SecretBytes::new(bytes)))
    }

    pub(super) fn entry(&self) -> Entry {
        Entry {
            session: self.session.clone(),
            issued_by: Timestamp::from_secs(self.issued_by),
            fences_all_older: self.fences_all_older,
        }
    }
}
