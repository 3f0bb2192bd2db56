//! The kinds of issuers that the broker knows.

use hallpass_core::time::Ttl;

use super::{buildkite, circleci, github_actions, gitlab, google, kubernetes, oidc, terraform_cloud};

/// What an issuer is. Its proofs are read accordingly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IssuerKind {
    /// Any issuer of OpenID Connect; its entry says which claims fill the provenance.
    Oidc,
    /// GitHub Actions, at github.com, of an enterprise there, or of an Enterprise Server.
    GithubActions,
    /// GitLab CI, at gitlab.com or at an instance of one's own.
    Gitlab,
    /// A Kubernetes cluster: bound tokens of its service accounts.
    Kubernetes,
    /// Buildkite.
    Buildkite,
    /// CircleCI, one organisation.
    Circleci,
    /// HCP Terraform, or a Terraform Enterprise.
    TerraformCloud,
    /// Google Cloud: identity tokens of service accounts.
    Google,
}

impl IssuerKind {
    /// Every kind.
    pub const ALL: &'static [Self] = &[
        Self::Oidc,
        Self::GithubActions,
        Self::Gitlab,
        Self::Kubernetes,
        Self::Buildkite,
        Self::Circleci,
        Self::TerraformCloud,
        Self::Google,
    ];

    /// The word used in configuration, policy, grants and the audit log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Oidc => "oidc",
            Self::GithubActions => "github-actions",
            Self::Gitlab => "gitlab",
            Self::Kubernetes => "kubernetes",
            Self::Buildkite => "buildkite",
            Self::Circleci => "circleci",
            Self::TerraformCloud => "terraform-cloud",
            Self::Google => "google",
        }
    }

    /// The kind of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.as_str() == name)
    }

    /// What holds of its issuers unless their entries say otherwise.
    #[must_use]
    pub const fn standard(self) -> &'static Standard {
        match self {
            Self::Oidc => &oidc::STANDARD,
            Self::GithubActions => &github_actions::STANDARD,
            Self::Gitlab => &gitlab::STANDARD,
            Self::Kubernetes => &kubernetes::STANDARD,
            Self::Buildkite => &buildkite::STANDARD,
            Self::Circleci => &circleci::STANDARD,
            Self::TerraformCloud => &terraform_cloud::STANDARD,
            Self::Google => &google::STANDARD,
        }
    }

    /// Whether it is for the entry to say which claims fill the provenance, and not for the kind.
    #[must_use]
    pub const fn maps_claims(self) -> bool {
        matches!(self, Self::Oidc)
    }
}

/// What holds of an issuer of some kind unless its entry says otherwise.
#[derive(Clone, Copy, Debug)]
pub struct Standard {
    /// `iss` where there is one for everybody.
    pub url: Option<&'static str>,
    /// How `iss` is found where each has its own, for whoever left it out.
    pub url_hint: &'static str,
    /// Origins other than its own at which it publishes its keys.
    pub jwks_origins: &'static [&'static str],
    /// Whether a proof mints once.
    pub single_use: bool,
    /// Longest time since `iat`.
    pub max_age: Option<Ttl>,
    /// Longest time from `iat` to `exp`.
    pub max_lifetime: Ttl,
}
