//! Backends of kind `kubernetes`: tokens of a cluster's service accounts.
//!
//! ```toml
//! [[backend]]
//! name = "prod-eu"
//! kind = "kubernetes"
//! server = "https://kubernetes.example.com:6443"
//! ca_file = "/etc/hallpass/prod-eu-ca.pem"          # then nobody else's certificate is trusted
//! namespaces = ["payments", "shop"]                 # where roles may name service accounts, and what is listed
//! advertise = true                                  # callers are told `server` and its authorities
//! timeout = "4s"
//! login = { method = "jwt", audience = "hallpass" } # the cluster trusts the broker as an issuer
//! # { method = "in_cluster" }                       # the broker's own pod: then server and ca_file have standards
//! # { method = "token_file", token_file = "…" }     # read each time
//! # { method = "client_certificate", certificate_file = "…", key_file = "…" }   # read at load
//! ```

use std::path::{Path, PathBuf};

use hallpass_core::id::BackendName;
use hallpass_core::port::SignatureAlgorithm;
use hallpass_core::time::Ttl;
use serde::Deserialize;
use url::Url;

use super::{Backend, BackendKind, common};
use crate::config::Finding;
use crate::config::document::{Document, Duration};
use crate::outbound::OwnCertificate;

/// Where a pod finds what it needs to call its own cluster.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// How a pod names the API server of its own cluster.
const OWN_SERVER: &str = "https://kubernetes.default.svc";
/// Most namespaces: each is listed by itself.
const MAX_NAMESPACES: usize = 64;

/// A backend of kind `kubernetes`, validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kubernetes {
    /// Origin of the API server.
    pub server: Url,
    /// The authorities of the server's certificate, PEM; nobody else is trusted then.
    pub ca_file: Option<PathBuf>,
    /// The namespaces that the broker works in.
    pub namespaces: Vec<String>,
    /// How the broker shows who it is.
    pub login: KubernetesLogin,
    /// Whether callers are told where the server is.
    pub advertise: bool,
    /// How long one call may take.
    pub timeout: Ttl,
}

/// How the broker shows a cluster who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KubernetesLogin {
    /// With a token in a file, which somebody else renews: read each time.
    TokenFile(PathBuf),
    /// With a certificate.
    Certificate(OwnCertificate),
    /// With a token that the broker signs for the purpose.
    Jwt {
        /// What the token has as `aud`.
        audience: String,
        /// How it is signed.
        algorithm: SignatureAlgorithm,
    },
}

impl Kubernetes {
    /// The audience of the broker's own token and how it is signed, where the broker shows one.
    #[must_use]
    pub fn own_token(&self) -> Option<(&str, SignatureAlgorithm)> {
        match &self.login {
            KubernetesLogin::Jwt { audience, algorithm } => Some((audience, *algorithm)),
            KubernetesLogin::TokenFile(_) | KubernetesLogin::Certificate(_) => None,
        }
    }

    /// The certificate that the broker shows, where it shows one.
    pub(crate) fn certificate_file(&self) -> Option<&PathBuf> {
        match &self.login {
            KubernetesLogin::Certificate(own) => Some(&own.certificate_file),
            KubernetesLogin::TokenFile(_) | KubernetesLogin::Jwt { .. } => None,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    name: BackendName,
    #[serde(rename = "kind")]
    _kind: String,
    server: Option<String>,
    ca_file: Option<PathBuf>,
    namespaces: Vec<String>,
    login: RawLogin,
    advertise: Option<bool>,
    timeout: Option<Duration>,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "method", rename_all = "snake_case", deny_unknown_fields)]
enum RawLogin {
    Jwt { audience: String, algorithm: Option<String> },
    InCluster {},
    TokenFile { token_file: PathBuf },
    ClientCertificate { certificate_file: PathBuf, key_file: PathBuf },
}

pub(super) fn read(entry: &Document<'_>, base: Option<&Path>, findings: &mut Vec<Finding>) -> Option<Backend> {
    let raw: Raw = entry.read(findings)?;
    let before = findings.len();
    let in_cluster = matches!(raw.login, RawLogin::InCluster {});
    let server = raw.server.or_else(|| in_cluster.then(|| OWN_SERVER.to_owned()));
    let server = match server {
        Some(server) => common::origin(entry, "server", &server, findings),
        None => {
            findings.push(entry.finding("server", "is missing: the origin of the cluster's API server"));
            None
        }
    };
    let file = |key: &str, file: &Path, findings: &mut Vec<Finding>| entry.existing_file(key, file, base, findings);
    let standard = in_cluster.then(|| Path::new(SERVICE_ACCOUNT).join("ca.crt"));
    let ca_file = match raw.ca_file.or(standard) {
        Some(ca) => Some(file("ca_file", &ca, findings)?),
        None => None,
    };
    if raw.namespaces.is_empty() || raw.namespaces.len() > MAX_NAMESPACES {
        let reason = format!("name the namespaces that the broker works in, {MAX_NAMESPACES} at most");
        findings.push(entry.finding("namespaces", reason));
    }
    for namespace in raw.namespaces.iter().filter(|name| !is_label(name)) {
        findings.push(entry.finding("namespaces", format!("{namespace:?} is no name of a namespace")));
    }
    let login = match raw.login {
        RawLogin::InCluster {} => {
            let token = Path::new(SERVICE_ACCOUNT).join("token");
            KubernetesLogin::TokenFile(file("login", &token, findings)?)
        }
        RawLogin::TokenFile { token_file } => {
            KubernetesLogin::TokenFile(file("login.token_file", &token_file, findings)?)
        }
        RawLogin::ClientCertificate { certificate_file, key_file } => KubernetesLogin::Certificate(OwnCertificate {
            certificate_file: file("login.certificate_file", &certificate_file, findings)?,
            key_file: file("login.key_file", &key_file, findings)?,
        }),
        RawLogin::Jwt { audience, algorithm } => {
            common::audience(entry, "login.audience", &audience, findings);
            let es256 = SignatureAlgorithm::Es256;
            let algorithm = common::algorithm(entry, "login.algorithm", algorithm.as_deref(), es256, findings);
            KubernetesLogin::Jwt { audience, algorithm }
        }
    };
    let timeout = common::timeout(entry, raw.timeout, findings);
    let kind = Kubernetes {
        server: server?,
        ca_file,
        namespaces: raw.namespaces,
        login,
        advertise: raw.advertise.unwrap_or(true),
        timeout,
    };
    (findings.len() == before).then(|| Backend { name: raw.name, kind: BackendKind::Kubernetes(Box::new(kind)) })
}

/// A label of RFC 1123, which names of namespaces are.
fn is_label(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&text.len()) && text.bytes().all(allowed) && !text.starts_with('-') && !text.ends_with('-')
}
