//! Backends of kind `vault`: HashiCorp Vault or OpenBao.
//!
//! ```toml
//! [[backend]]
//! name = "vault-eu"
//! kind = "vault"
//! addresses = ["https://vault-1.example.com:8200", "https://vault-2.example.com:8200"]
//! namespace = "teams/payments"                      # none by default
//! ca_file = "/etc/hallpass/vault-ca.pem"            # then nobody else's certificate is trusted
//! timeout = "5s"                                    # for one node
//! token_role = "hallpass"                           # the token role that grants' tokens come from
//! spares = 2                                        # parents of dynamic credentials that are kept ready, per role
//! login = { method = "jwt", mount = "jwt", role = "hallpass", audience = "https://vault.example.com:8200" }
//! # { method = "kubernetes", mount = "kubernetes", role = "hallpass", token_file = "/var/run/secrets/…/token" }
//! # { method = "approle", mount = "approle", role_id = { file = "…" }, secret_id = { env = "…" } }
//! # { method = "token_file", token_file = "/run/vault/token" }
//! ```

mod engine;

use std::path::{Path, PathBuf};

use hallpass_core::credential::RevocationClass;
use hallpass_core::id::BackendName;
use hallpass_core::port::SignatureAlgorithm;
use hallpass_core::time::Ttl;
use serde::Deserialize;
use serde_json::Value;
use url::Url;

pub use self::engine::{Engine, UnknownEngine};
use super::{Backend, BackendKind};
use crate::config::Finding;
use crate::config::document::{Bounded, Document, Duration};
use crate::config::url::check_origin;

/// Most nodes of one cluster.
const MAX_ADDRESSES: usize = 8;
/// How many parents are kept ready for a role: enough for those who come one after the other.
const SPARES: usize = 2;
/// Most parents that are kept ready for a role: each is a token that lives at the server.
const MAX_SPARES: usize = 64;

/// A backend of kind `vault`, validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vault {
    /// Origins of the nodes of one cluster.
    pub addresses: Vec<Url>,
    /// The namespace that everything is in.
    pub namespace: Option<String>,
    /// The authorities of the server's certificate, PEM; nobody else is trusted then.
    pub ca_file: Option<PathBuf>,
    /// How long one node may take to answer.
    pub timeout: Ttl,
    /// How the broker logs in.
    pub login: Login,
    /// The token role that grants' tokens come from.
    pub token_role: String,
    /// How many parents of dynamic credentials are kept ready for each role.
    pub spares: usize,
    /// Plain http is spoken to any machine.
    pub dangerous_allow_http: bool,
}

/// How the broker logs in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    /// With a token that the broker signs for the purpose: nothing secret lies anywhere.
    Jwt {
        /// Where the auth method is mounted.
        mount: String,
        /// Its role.
        role: String,
        /// What the token has as `aud`.
        audience: String,
        /// How it is signed.
        algorithm: SignatureAlgorithm,
    },
    /// With the token of the broker's own service account.
    Kubernetes {
        /// Where the auth method is mounted.
        mount: String,
        /// Its role.
        role: String,
        /// The projected token; read each time.
        token_file: PathBuf,
    },
    /// With a role id and a secret id.
    Approle {
        /// Where the auth method is mounted.
        mount: String,
        /// The role id.
        role_id: SecretSource,
        /// The secret id.
        secret_id: SecretSource,
    },
    /// With a token that somebody else, such as Vault's agent, puts there and keeps alive.
    TokenFile {
        /// The file; read each time.
        token_file: PathBuf,
    },
}

/// Where a secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// In this file; read each time.
    File(PathBuf),
    /// In this environment variable.
    Env(String),
}

impl Vault {
    /// The cluster, by the first of its addresses, and the namespace.
    pub(super) fn server(&self) -> String {
        let first = self.addresses.first().map(|address| address.origin().ascii_serialization()).unwrap_or_default();
        format!("{first} {}", self.namespace.as_deref().unwrap_or_default())
    }

    /// How a credential of a role with these parameters can be stopped. Of a path whose engine is not known nothing is
    /// promised; such a role does not load.
    #[must_use]
    pub fn class(parameters: &Value) -> RevocationClass {
        Engine::of(parameters).map_or(RevocationClass::ExpiryOnly, Engine::class)
    }

    /// The audience of the broker's own token, where it logs in with one: no role may give tokens for it.
    #[must_use]
    pub fn audience(&self) -> Option<&str> {
        match &self.login {
            Login::Jwt { audience, .. } => Some(audience),
            _ => None,
        }
    }

    /// How the broker's own token is signed, where it logs in with one.
    #[must_use]
    pub const fn algorithm(&self) -> SignatureAlgorithm {
        match &self.login {
            Login::Jwt { algorithm, .. } => *algorithm,
            _ => SignatureAlgorithm::Es256,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawVault {
    name: BackendName,
    #[serde(rename = "kind")]
    _kind: String,
    addresses: Vec<String>,
    namespace: Option<String>,
    ca_file: Option<PathBuf>,
    timeout: Option<Duration>,
    login: RawLogin,
    token_role: Option<String>,
    spares: Option<usize>,
    #[serde(default)]
    dangerous_allow_http: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLogin {
    method: Option<String>,
    mount: Option<String>,
    role: Option<String>,
    audience: Option<String>,
    algorithm: Option<String>,
    token_file: Option<PathBuf>,
    role_id: Option<RawSecret>,
    secret_id: Option<RawSecret>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSecret {
    file: Option<PathBuf>,
    env: Option<String>,
}

const TIMEOUT: Bounded = Bounded { standard: Ttl::from_secs(5), min: Ttl::from_secs(1), max: Ttl::from_secs(8) };

pub(super) fn read(entry: &Document<'_>, base: Option<&Path>, findings: &mut Vec<Finding>) -> Option<Backend> {
    let raw: RawVault = entry.read(findings)?;
    let before = findings.len();
    let mut reading = Reading { entry, base, findings };
    let addresses = reading.addresses(&raw.addresses, raw.dangerous_allow_http);
    let token_role = raw.token_role.unwrap_or_else(|| "hallpass".to_owned());
    reading.name("token_role", &token_role);
    if let Some(namespace) = &raw.namespace {
        reading.path("namespace", namespace);
    }
    let ca_file = match raw.ca_file {
        None => None,
        Some(file) => Some(entry.existing_file("ca_file", &file, base, reading.findings)?),
    };
    let login = reading.login(raw.login, addresses.first())?;
    let spares = raw.spares.unwrap_or(SPARES);
    if spares > MAX_SPARES {
        reading.found("spares", format!("{spares} is more than {MAX_SPARES}: each is a token at the server"));
    }
    let timeout = TIMEOUT.check(entry, "timeout", raw.timeout, findings);
    let vault = Vault {
        addresses,
        namespace: raw.namespace,
        ca_file,
        timeout,
        login,
        token_role,
        spares,
        dangerous_allow_http: raw.dangerous_allow_http,
    };
    (findings.len() == before).then(|| Backend { name: raw.name, kind: BackendKind::Vault(Box::new(vault)) })
}

struct Reading<'a, 'b> {
    entry: &'a Document<'b>,
    base: Option<&'a Path>,
    findings: &'a mut Vec<Finding>,
}

impl Reading<'_, '_> {
    fn found(&mut self, key: &str, reason: impl std::fmt::Display) {
        self.findings.push(self.entry.finding(key, reason));
    }

    fn addresses(&mut self, written: &[String], dangerous_allow_http: bool) -> Vec<Url> {
        if written.is_empty() || written.len() > MAX_ADDRESSES {
            self.found("addresses", format!("name the origins of the nodes of one cluster, {MAX_ADDRESSES} at most"));
        }
        let mut addresses = Vec::new();
        for text in written {
            match check_origin(text, dangerous_allow_http) {
                Ok(url) if addresses.contains(&url) => self.found("addresses", format!("{text:?} is there twice")),
                Ok(url) => addresses.push(url),
                Err(why) => self.found("addresses", why),
            }
        }
        addresses
    }

    fn login(&mut self, raw: RawLogin, address: Option<&Url>) -> Option<Login> {
        let Some(method) = raw.method.as_deref() else {
            self.found("login.method", "is missing; use \"jwt\", \"kubernetes\", \"approle\" or \"token_file\"");
            return None;
        };
        let mount = raw.mount.clone().unwrap_or_else(|| method.to_owned());
        self.path("login.mount", &mount);
        let given = [
            ("mount", raw.mount.is_some()),
            ("role", raw.role.is_some()),
            ("audience", raw.audience.is_some()),
            ("algorithm", raw.algorithm.is_some()),
            ("token_file", raw.token_file.is_some()),
            ("role_id", raw.role_id.is_some()),
            ("secret_id", raw.secret_id.is_some()),
        ];
        let takes: &[&str] = match method {
            "jwt" => &["mount", "role", "audience", "algorithm"],
            "kubernetes" => &["mount", "role", "token_file"],
            "approle" => &["mount", "role_id", "secret_id"],
            "token_file" => &["token_file"],
            other => {
                let reason =
                    format!("there is no method {other:?}; use \"jwt\", \"kubernetes\", \"approle\" or \"token_file\"");
                self.found("login.method", reason);
                return None;
            }
        };
        for (key, _) in given.iter().filter(|(key, is_given)| *is_given && !takes.contains(key)) {
            self.found(&format!("login.{key}"), format!("is nothing that the method {method:?} takes"));
        }
        Some(match method {
            "jwt" => {
                let algorithm =
                    raw.algorithm.as_deref().map_or(Some(SignatureAlgorithm::Es256), SignatureAlgorithm::parse);
                if algorithm.is_none() {
                    self.found("login.algorithm", "the broker signs with \"ES256\", \"EdDSA\" or \"RS256\"");
                }
                let origin = address.map(|url| url.origin().ascii_serialization());
                let audience = raw.audience.or(origin)?;
                if audience.trim().is_empty() || audience.chars().any(char::is_control) {
                    self.found("login.audience", "is what the auth role has among its bound_audiences");
                }
                Login::Jwt { mount, role: self.role(raw.role)?, audience, algorithm: algorithm? }
            }
            "kubernetes" => {
                let usual = PathBuf::from("/var/run/secrets/kubernetes.io/serviceaccount/token");
                let token_file = self.file("login.token_file", raw.token_file.unwrap_or(usual))?;
                Login::Kubernetes { mount, role: self.role(raw.role)?, token_file }
            }
            "approle" => Login::Approle {
                mount,
                role_id: self.secret("login.role_id", raw.role_id)?,
                secret_id: self.secret("login.secret_id", raw.secret_id)?,
            },
            _ => {
                let Some(file) = raw.token_file else {
                    self.found("login.token_file", "is missing: the file that the token is in");
                    return None;
                };
                Login::TokenFile { token_file: self.file("login.token_file", file)? }
            }
        })
    }

    fn role(&mut self, written: Option<String>) -> Option<String> {
        let role = written.unwrap_or_else(|| "hallpass".to_owned());
        self.name("login.role", &role);
        Some(role)
    }

    fn secret(&mut self, key: &str, written: Option<RawSecret>) -> Option<SecretSource> {
        match written {
            Some(RawSecret { file: Some(file), env: None }) => self.file(key, file).map(SecretSource::File),
            Some(RawSecret { file: None, env: Some(name) }) => {
                let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
                if name.is_empty() || !name.chars().all(word) || name.starts_with(|c: char| c.is_ascii_digit()) {
                    self.found(key, "env is the name of an environment variable: letters, digits and _");
                }
                self.is_of_this_machine(key).then_some(SecretSource::Env(name))
            }
            _ => {
                self.found(key, "says where it is: { file = \"…\" } or { env = \"…\" }, one of them");
                None
            }
        }
    }

    /// A file that may come later, or be another each time.
    fn file(&mut self, key: &str, file: PathBuf) -> Option<PathBuf> {
        self.is_of_this_machine(key).then(|| self.base.map_or_else(|| file.clone(), |base| base.join(&file)))
    }

    /// A bundle that was sent names nothing of the broker's machine: it would have the broker read it and send it where the
    /// bundle says.
    fn is_of_this_machine(&mut self, key: &str) -> bool {
        if self.base.is_none() {
            self.found(
                key,
                "names what lies on the broker's machine, which only a bundle that lies there as a folder may",
            );
        }
        self.base.is_some()
    }

    fn name(&mut self, key: &str, name: &str) {
        if !is_name(name) {
            self.found(key, format!("{name:?} is no name: letters, digits, - _ and ."));
        }
    }

    fn path(&mut self, key: &str, path: &str) {
        if !path.split('/').all(is_name) {
            self.found(key, format!("{path:?}: give it without slashes around it, of letters, digits, - _ and ."));
        }
    }
}

/// One part of a path that means nothing but itself.
fn is_name(part: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (1..=128).contains(&part.len()) && part.chars().all(word) && part != "." && part != ".."
}
