//! The governed configuration of one revision, as the domain reads it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::id::{AttestorName, BackendName, EnvironmentName, IssuerName, OwnerName, RevisionId, RoleName};
use crate::owner::Owner;
use crate::port::{AttestationVerifier, CredentialBackend, IdentityVerifier, PolicyEngine};
use crate::role::Role;
use crate::time::Timestamp;

/// An environment that credentials reach.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// Its name.
    pub name: EnvironmentName,
    /// What kind of environment it is.
    pub class: EnvironmentClass,
    /// When it ends, for previews.
    pub ends_at: Option<Timestamp>,
}

/// What kind of environment it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EnvironmentClass {
    /// Real users and real data.
    Production,
    /// As production, before production.
    Staging,
    /// Made for one change and removed after it.
    Preview,
    /// For development.
    Development,
}

impl EnvironmentClass {
    /// The word used on the wire, in policy and in the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Production => "production",
            Self::Staging => "staging",
            Self::Preview => "preview",
            Self::Development => "development",
        }
    }
}

/// Roles, owners and environments of one revision. Plain data; loading has checked that no name dangles.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    /// Roles by name.
    pub roles: BTreeMap<RoleName, Arc<Role>>,
    /// Owners by name.
    pub owners: BTreeMap<OwnerName, Arc<Owner>>,
    /// Environments by name.
    pub environments: BTreeMap<EnvironmentName, Environment>,
    /// What is said of each issuer, for comparing revisions.
    pub issuers: BTreeMap<IssuerName, IssuerFacts>,
    /// What is said of each backend, by digest, for comparing revisions.
    pub backends: BTreeMap<BackendName, String>,
    /// What is said of each attestor, by digest, for comparing revisions.
    pub attestors: BTreeMap<AttestorName, String>,
}

/// What a revision says of an issuer, by digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerFacts {
    /// Of everything.
    pub whole: String,
    /// Of what makes a proof one of this issuer's and what is read from it: its URL, its keys and how they sign, the kind of
    /// its identities, their provenance, and what is asked of a proof. Not how its keys are kept fresh.
    pub trust: String,
}

impl Catalog {
    /// The role of this name, as a caller wrote it.
    #[must_use]
    pub fn role(&self, name: &str) -> Option<&Arc<Role>> {
        RoleName::new(name).ok().and_then(|name| self.roles.get(&name))
    }

    /// Class of the role's environment, where it has one.
    #[must_use]
    pub fn environment_class(&self, role: &Role) -> Option<EnvironmentClass> {
        role.environment.as_ref().and_then(|name| self.environments.get(name)).map(|environment| environment.class)
    }

    /// Owners that the identity `subject` of `issuer` belongs to.
    pub fn owners_of<'a>(&'a self, issuer: &'a IssuerName, subject: &'a str) -> impl Iterator<Item = &'a OwnerName> {
        self.owners
            .values()
            .filter(move |owner| owner.active && owner.has_member(issuer, subject))
            .map(|owner| &owner.name)
    }
}

/// Everything that one bundle revision brings: what is governed, what decides, who verifies and who mints.
///
/// A request takes one revision at its start and keeps it to its end, so that its parts always belong together.
pub struct Revision {
    /// Digest of the bundle's content.
    pub id: RevisionId,
    /// Roles, owners, environments.
    pub catalog: Catalog,
    /// What decides.
    pub policy: Arc<dyn PolicyEngine>,
    /// Who verifies proofs, one per configured issuer.
    pub verifiers: Vec<Arc<dyn IdentityVerifier>>,
    /// Who checks what was signed about changes and builds.
    pub attestors: Arc<dyn AttestationVerifier>,
    /// Who mints, by configured name.
    pub backends: BTreeMap<BackendName, Arc<dyn CredentialBackend>>,
}

impl std::fmt::Debug for Revision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Revision").field("id", &self.id).finish_non_exhaustive()
    }
}
