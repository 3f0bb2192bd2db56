//! Which proof source this process has.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::github_actions::{REQUEST_TOKEN, REQUEST_URL};
use super::{Buildkite, ClientCertificate, GitHubActions, Given, ProofError, ProofSource, TokenFile, WorkloadApi};
use crate::wire::Secret;

/// Where a Kubernetes pod projects the token that is meant for the broker.
pub const KUBERNETES_TOKEN_PATH: &str = "/var/run/secrets/hallpass/token";

const PROOF: &str = "HALLPASS_PROOF";
const PROOF_FILE: &str = "HALLPASS_PROOF_FILE";
const ID_TOKEN: &str = "HALLPASS_ID_TOKEN";
/// Where the agent of the SPIFFE Workload API listens (SPIFFE Workload Endpoint §4).
pub(super) const SPIFFE_SOCKET: &str = "SPIFFE_ENDPOINT_SOCKET";
const CLIENT_CERT: &str = "HALLPASS_CLIENT_CERT";
const CLIENT_KEY: &str = "HALLPASS_CLIENT_KEY";
const KUBERNETES_FILE: &str = "HALLPASS_KUBERNETES_TOKEN_FILE";

/// Variables that carry a proof, name a file with one, or let one be fetched. A child process that is to have a credential only must not
/// inherit them.
pub const PROOF_VARIABLES: [&str; 9] =
    [PROOF, PROOF_FILE, ID_TOKEN, KUBERNETES_FILE, REQUEST_URL, REQUEST_TOKEN, CLIENT_CERT, CLIENT_KEY, SPIFFE_SOCKET];

/// The environment that sources are looked for in.
pub struct Surroundings {
    variable: Box<Variables>,
    is_file: Box<Files>,
}

type Variables = dyn Fn(&str) -> Option<String> + Send + Sync;
type Files = dyn Fn(&Path) -> bool + Send + Sync;

impl Surroundings {
    /// Those of this process.
    #[must_use]
    pub fn of_this_process() -> Self {
        Self::new(|name| std::env::var(name).ok(), Path::is_file)
    }

    /// Made up, for tests and for callers with an environment of their own.
    #[must_use]
    pub fn new(
        variable: impl Fn(&str) -> Option<String> + Send + Sync + 'static,
        is_file: impl Fn(&Path) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self { variable: Box::new(variable), is_file: Box::new(is_file) }
    }

    /// A variable that is set to nothing is not set.
    fn variable(&self, name: &str) -> Option<String> {
        (self.variable)(name).filter(|value| !value.trim().is_empty())
    }

    fn needed(&self, source: &'static str, name: &str) -> Result<String, ProofError> {
        self.variable(name).ok_or_else(|| ProofError::Missing { name: source, variable: name.to_owned() })
    }
}

/// Finds a source: `HALLPASS_PROOF`, `HALLPASS_PROOF_FILE`, GitHub Actions, GitLab (`id_tokens: HALLPASS_ID_TOKEN`), the
/// projected token of Kubernetes, the SPIFFE Workload API, Buildkite, in this order. `None` when there is none.
///
/// What is there but unusable, such as an empty token, is found all the same: its error is more use than another
/// identity.
#[must_use]
pub fn discover(surroundings: &Surroundings) -> Option<Arc<dyn ProofSource>> {
    let set = |name: &str| surroundings.variable(name).is_some();
    let kubernetes_file = || (surroundings.is_file)(Path::new(KUBERNETES_TOKEN_PATH));
    let name = if set(PROOF) {
        "env:HALLPASS_PROOF".to_owned()
    } else if let Some(path) = surroundings.variable(PROOF_FILE) {
        format!("file:{path}")
    } else if set(REQUEST_URL) && set(REQUEST_TOKEN) {
        "github".to_owned()
    } else if set(ID_TOKEN) {
        "gitlab".to_owned()
    } else if set(KUBERNETES_FILE) || kubernetes_file() {
        "kubernetes".to_owned()
    } else if set(SPIFFE_SOCKET) {
        "spiffe".to_owned()
    } else if surroundings.variable("BUILDKITE").as_deref() == Some("true") {
        "buildkite".to_owned()
    } else {
        return None;
    };
    Some(named(&name, surroundings).unwrap_or_else(|error| Arc::new(Unusable { name, error: error.to_string() })))
}

/// The source of this name: `env:NAME`, `file:PATH`, `github`, `gitlab`, `kubernetes`, `buildkite`, `spiffe` (the
/// agent at `SPIFFE_ENDPOINT_SOCKET`) or `certificate`, which is the one that the client is built with.
///
/// # Errors
/// [`ProofError::UnknownSource`] for another name, [`ProofError::Missing`] where its variables are not set, and what
/// the source itself refuses.
pub fn named(name: &str, surroundings: &Surroundings) -> Result<Arc<dyn ProofSource>, ProofError> {
    match name.split_once(':') {
        Some(("env", variable)) if !variable.is_empty() => {
            let token = Secret::new(surroundings.needed("env", variable)?);
            Ok(Arc::new(Given::from_variable(variable, token)?))
        }
        Some(("file", path)) if !path.is_empty() => Ok(Arc::new(TokenFile::new(path))),
        _ => match name {
            "github" | "github-actions" => {
                let token = Secret::new(surroundings.needed("github", REQUEST_TOKEN)?);
                Ok(Arc::new(GitHubActions::new(&surroundings.needed("github", REQUEST_URL)?, token)?))
            }
            "gitlab" => {
                let token = Secret::new(surroundings.needed("gitlab", ID_TOKEN)?);
                Ok(Arc::new(Given::from_variable(ID_TOKEN, token)?))
            }
            "kubernetes" => {
                let path = surroundings.variable(KUBERNETES_FILE).map(PathBuf::from);
                Ok(Arc::new(TokenFile::kubernetes(path.unwrap_or_else(|| PathBuf::from(KUBERNETES_TOKEN_PATH)))))
            }
            "buildkite" => Ok(Arc::new(Buildkite::new())),
            "spiffe" => Ok(Arc::new(WorkloadApi::new(&surroundings.needed("spiffe", SPIFFE_SOCKET)?)?)),
            "certificate" => Ok(Arc::new(ClientCertificate)),
            _ => Err(ProofError::UnknownSource(name.to_owned())),
        },
    }
}

/// A source that is there but gives nothing.
struct Unusable {
    name: String,
    error: String,
}

impl ProofSource for Unusable {
    fn name(&self) -> &str {
        &self.name
    }

    fn refreshable(&self) -> bool {
        false
    }

    fn fetch<'a>(&'a self, _context: &'a super::ProofContext<'a>) -> super::ProofFuture<'a> {
        let reason = self.error.clone();
        Box::pin(async { Err(ProofError::Refused { name: "found in the environment", reason }) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn surroundings(variables: &'static [(&'static str, &'static str)], kubernetes: bool) -> Surroundings {
        Surroundings::new(
            move |name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()),
            move |path| kubernetes && path == Path::new(KUBERNETES_TOKEN_PATH),
        )
    }

    const EVERYTHING: &[(&str, &str)] = &[
        ("HALLPASS_PROOF", "t"),
        ("HALLPASS_PROOF_FILE", "/f"),
        ("ACTIONS_ID_TOKEN_REQUEST_URL", "https://actions.example/token?api-version=2.0"),
        ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "r"),
        ("HALLPASS_ID_TOKEN", "g"),
        ("BUILDKITE", "true"),
    ];

    #[test]
    fn sources_are_found_in_the_documented_order() {
        let found = |variables, kubernetes| {
            discover(&surroundings(variables, kubernetes))
                .map(|source| (source.name().to_owned(), source.refreshable()))
        };
        let expect = |name: &str, refreshable| Some((name.to_owned(), refreshable));
        assert_eq!(found(EVERYTHING, true), expect("env:HALLPASS_PROOF", false));
        assert_eq!(found(&EVERYTHING[1..], true), expect("file:/f", false));
        assert_eq!(found(&EVERYTHING[2..], true), expect("github-actions", true));
        assert_eq!(found(&EVERYTHING[3..], true), expect("env:HALLPASS_ID_TOKEN", false), "half of GitHub is none");
        assert_eq!(found(&EVERYTHING[5..], true), expect("kubernetes", true));
        assert_eq!(found(&EVERYTHING[5..], false), expect("buildkite", true));
        assert_eq!(found(&[], false), None);
        assert_eq!(found(&[("HALLPASS_PROOF", " ")], false), None, "set to nothing is not set");
        assert_eq!(found(&[("HALLPASS_KUBERNETES_TOKEN_FILE", "/t")], false), expect("kubernetes", true));
    }

    #[test]
    fn an_unusable_source_does_not_let_another_identity_through() {
        let found = discover(&surroundings(&[("HALLPASS_PROOF", "two words"), ("BUILDKITE", "true")], true)).unwrap();
        assert_eq!(found.name(), "env:HALLPASS_PROOF");
    }

    #[test]
    fn a_name_that_is_none_or_lacks_its_variable_is_refused() {
        let nothing = surroundings(&[], false);
        for name in ["", "nonsense", "env:", "file:", "env", "aws:x"] {
            assert!(matches!(named(name, &nothing), Err(ProofError::UnknownSource(_))), "{name}");
        }
        for name in ["env:MY_TOKEN", "github", "gitlab", "spiffe"] {
            assert!(matches!(named(name, &nothing), Err(ProofError::Missing { .. })), "{name}");
        }
        let mine = surroundings(&[("MY_TOKEN", "t")], false);
        assert_eq!(named("env:MY_TOKEN", &mine).unwrap().variables(), ["MY_TOKEN"]);
    }

    #[test]
    fn a_plain_http_token_endpoint_is_refused() {
        let token = || Secret::new("r".to_owned());
        assert!(GitHubActions::new("http://actions.example/token", token()).is_err());
        assert!(GitHubActions::new("http://127.0.0.1:1/token", token()).is_ok());
    }
}
