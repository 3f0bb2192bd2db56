//! The client: calls a broker with a proof that it finds where it runs.
//!
//! Invariants: TLS is rustls on ring; redirects are never followed, because a proof must go to the named broker alone;
//! every call has a deadline and a size cap; a call is repeated only where that is safe; nothing secret is in an error.
//!
//! ```no_run
//! # async fn example() -> Result<(), hallpass_sdk::client::Error> {
//! use hallpass_sdk::Client;
//! use hallpass_sdk::wire::CreateGrant;
//!
//! let client = Client::builder("https://hallpass.example").build()?;
//! let opened = client.create_grant(&CreateGrant::new("payments/prod/deploy", "deploy 4f2c to prod")).await?;
//! println!("{} until {}", opened.grant.id, opened.grant.end_at);
//! # Ok(())
//! # }
//! ```
//!
//! An agent that acts for a job, and whose credentials work with its own key alone:
//!
//! ```no_run
//! # fn example(job: hallpass_sdk::wire::Secret) -> Result<(), hallpass_sdk::client::Error> {
//! use std::sync::Arc;
//!
//! use hallpass_sdk::Client;
//! use hallpass_sdk::client::PossessionKey;
//! use hallpass_sdk::client::proof::Given;
//!
//! let agent = Client::builder("https://hallpass.example")
//!     .acts_for(Arc::new(Given::token(job)?))
//!     .possession(Arc::new(PossessionKey::generate()?))
//!     .build()?;
//! # Ok(())
//! # }
//! ```

mod builder;
mod call;
mod commands;
mod configuration;
mod error;
mod evidence;
mod grants;
mod held_proof;
mod inventory;
mod lease;
mod oauth;
mod possession;
pub mod proof;
mod retry;
mod transport;

use std::sync::Arc;

use url::Url;

pub use builder::ClientBuilder;
pub use error::{ConfigurationError, Error, ErrorKind, Refusal, TokenRefusal, TransportError};
pub use lease::{Heartbeat, Lease, LeaseHealth};
pub use oauth::TokenExchange;
pub use possession::PossessionKey;
pub use retry::RetryPolicy;

use crate::wire::Timestamp;
use held_proof::HeldProof;
use transport::Transport;

/// A broker, as one caller sees it. Cloning is cheap and shares connections and the held proof.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    base: Url,
    transport: Transport,
    retry: RetryPolicy,
    proof: HeldProof,
    /// Who the grants that it opens are for, where it acts for somebody.
    acts_for: Option<HeldProof>,
    possession: Option<Arc<PossessionKey>>,
    clock: fn() -> Timestamp,
}

impl Client {
    /// Begins a client for the broker at `url`, its origin: `https://hallpass.example`.
    #[must_use]
    pub fn builder(url: impl Into<String>) -> ClientBuilder {
        ClientBuilder::new(url.into())
    }

    /// Name of the proof source in use, such as `github-actions`; `None` when none was named or found.
    #[must_use]
    pub fn proof_source(&self) -> Option<&str> {
        self.inner.proof.source().map(proof::ProofSource::name)
    }

    /// Whether the source can give fresh proofs for as long as this process runs.
    #[must_use]
    pub fn proof_is_refreshable(&self) -> bool {
        self.inner.proof.source().is_some_and(proof::ProofSource::refreshable)
    }

    /// Environment variables that carry the proof, or what proofs are fetched with: see
    /// [`proof::ProofSource::variables`].
    #[must_use]
    pub fn proof_variables(&self) -> Vec<String> {
        let held = [Some(&self.inner.proof), self.inner.acts_for.as_ref()];
        let sources = held.into_iter().flatten().filter_map(HeldProof::source);
        sources.flat_map(proof::ProofSource::variables).collect()
    }

    /// When the proof that calls are made with expires, as the proof itself says; fetches one where none is held.
    ///
    /// # Errors
    /// [`Error::Proof`] when no proof can be had.
    pub async fn unverified_proof_expiry(&self) -> Result<Option<Timestamp>, Error> {
        Ok(self.inner.proof.present(&self.inner.transport).await?.unverified_expires_at())
    }

    /// The time by this client's clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        (self.inner.clock)()
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("base", &self.inner.base.as_str())
            .field("proof_source", &self.proof_source())
            .finish_non_exhaustive()
    }
}
