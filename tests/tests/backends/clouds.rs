//! What the tests of clouds share: the time stands still, and the broker has a key.

use std::sync::Arc;

use hallpass_broker::backend::own_identity::OwnIdentity;
use hallpass_broker::keys::{LocalSigner, SystemEntropy};
use hallpass_broker::outbound::Outbound;
use hallpass_core::credential::{Handle, IssueOrder, IssuedCredential};
use hallpass_core::id::BackendName;
use hallpass_core::port::{CredentialBackend, IssueError, SignatureAlgorithm, Signer};
use hallpass_core::role::Role;
use hallpass_core::testing::{MockClock, sample};
use hallpass_core::time::{Clock, Timestamp, Ttl};
use hallpass_tests::contract::Contract;
use serde_json::Value;

/// The origin of the broker.
pub(crate) const INSTANCE: &str = "https://hallpass.test";

pub(crate) fn clock() -> Arc<MockClock> {
    Arc::new(MockClock::starting_at(sample::NOW))
}

pub(crate) fn outbound(contract: &Contract) -> Outbound {
    Outbound::to_backend(Some(&contract.authorities())).unwrap()
}

pub(crate) fn name(name: &str) -> BackendName {
    BackendName::new(name).unwrap()
}

/// What the broker is before the backend of this name.
pub(crate) fn identity(backend: &str, clock: &Arc<MockClock>) -> OwnIdentity {
    let key = LocalSigner::generate(SignatureAlgorithm::Es256).unwrap();
    let signer: Arc<dyn Signer> = Arc::new(LocalSigner::from_pkcs8(SignatureAlgorithm::Es256, &key).unwrap());
    let keys = Arc::new(vec![signer]);
    let (clock, entropy) = (Arc::clone(clock) as Arc<dyn Clock>, Arc::new(SystemEntropy::new()));
    OwnIdentity::new(name(backend), INSTANCE, SignatureAlgorithm::Es256, keys, clock, entropy)
}

pub(crate) fn role(parameters: Value) -> Role {
    Role { parameters, ..sample::role("payments/prod/deploy") }
}

pub(crate) fn order(n: u64, parameters: Value, life: Ttl) -> IssueOrder {
    lasting(n, parameters, sample::NOW, sample::NOW.plus(life))
}

pub(crate) fn lasting(n: u64, parameters: Value, issued_at: Timestamp, expires_at: Timestamp) -> IssueOrder {
    IssueOrder { issued_at, expires_at, ..sample::order(n, role(parameters)) }
}

/// As core does it: the handle that is kept is the answer's, else what was prepared, else what was planned.
pub(crate) async fn mint(
    backend: &dyn CredentialBackend,
    order: &IssueOrder,
) -> Result<(IssuedCredential, Handle), IssueError> {
    let planned = backend.plan(order)?;
    let prepared = backend.prepare(order, &planned).await?;
    let handle = prepared.unwrap_or(planned);
    let mut issued = backend.issue(order, &handle).await?;
    let handle = issued.handle.take().unwrap_or(handle);
    Ok((issued, handle))
}

/// That a refusal tells the caller nothing of what the server said, and the audit log all of it.
pub(crate) fn told_apart(failed: &IssueError, recorded: &str) {
    let IssueError::Refused { detail, internal: Some(internal), .. } = failed else { panic!("{failed:?}") };
    let recorded: Value = serde_json::from_str(recorded).unwrap_or_default();
    let places = [&recorded["error_description"], &recorded["error"]["message"], &recorded["message"]];
    let said = places.into_iter().find_map(Value::as_str).unwrap_or_else(|| panic!("{recorded}"));
    let first: Vec<_> = said.split_whitespace().take(4).collect();
    assert!(internal.contains(&first.join(" ")), "{said:?} is not in {internal:?}");
    assert!(!detail.contains(said) && internal != detail, "{detail}");
}

/// What kind of failure it is.
pub(crate) const fn kind_of(error: &IssueError) -> &'static str {
    match error {
        IssueError::Refused { .. } => "refused",
        IssueError::Suspended { .. } => "suspended",
        IssueError::Unavailable { .. } => "unavailable",
        IssueError::OutcomeUnknown { .. } => "unknown",
    }
}
