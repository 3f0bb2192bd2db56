//! Backends of kind `postgres`: users of a PostgreSQL server.
//!
//! ```toml
//! [[backend]]
//! name = "orders-db"
//! kind = "postgres"
//! host = "db.internal"                                # a folder, such as "/run/postgresql", is a Unix socket
//! port = 5432
//! database = "postgres"                               # where the broker itself goes to
//! username = "hallpass"
//! password = { file = "/etc/hallpass/orders-db" }     # or { env = "ORDERS_DB_PASSWORD" }; read at each connection
//! # certificate_file = "…"                            # or a client's certificate with its key, or, on a Unix socket,
//! # key_file = "…"                                    # nothing at all
//! ca_file = "/etc/hallpass/db-ca.pem"                 # then nobody else's certificate is trusted
//! tls = "require"                                     # "disable" on this machine only
//! connections = 10
//! advertised_host = "db.example.com"                  # what callers are told, where it is another
//! advertised_port = 5432
//! ```

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use hallpass_core::id::BackendName;
use serde::Deserialize;

use super::{Backend, BackendKind};
use crate::config::Finding;
use crate::config::document::Document;

/// Most connections: a server has a hundred by default, and they are not all for the broker.
const MAX_CONNECTIONS: usize = 64;

/// A backend of kind `postgres`, validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Postgres {
    /// Name or address of the server; the folder of its Unix socket.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The database that the broker goes to where no other is needed.
    pub database: String,
    /// The broker's own user.
    pub username: String,
    /// How the broker proves that it is that.
    pub login: Login,
    /// Whether connections are encrypted, and the server's certificate checked.
    pub tls: bool,
    /// The authorities of the server's certificate, PEM; nobody else is trusted then.
    pub ca_file: Option<PathBuf>,
    /// Most connections at once.
    pub connections: usize,
    /// What callers are told as host.
    pub advertised_host: String,
    /// What callers are told as port.
    pub advertised_port: u16,
}

impl Postgres {
    /// The server, whose users are the same in each of its databases.
    pub(super) fn server(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

/// How the broker logs in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    /// With the password in this file, read at each connection.
    PasswordFile(PathBuf),
    /// With the password in this environment variable.
    PasswordEnv(String),
    /// With a certificate.
    Certificate {
        /// The certificate and those above it, PEM.
        certificate_file: PathBuf,
        /// Its key, PEM.
        key_file: PathBuf,
    },
    /// The server knows by the socket who calls (`peer`).
    Socket,
}

impl Login {
    /// The certificate, where one is shown.
    pub(crate) fn certificate_file(&self) -> Option<&PathBuf> {
        match self {
            Self::Certificate { certificate_file, .. } => Some(certificate_file),
            Self::PasswordFile(_) | Self::PasswordEnv(_) | Self::Socket => None,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPostgres {
    name: BackendName,
    #[serde(rename = "kind")]
    _kind: String,
    host: String,
    port: Option<u16>,
    database: Option<String>,
    username: String,
    password: Option<toml::Value>,
    certificate_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    tls: Option<String>,
    connections: Option<usize>,
    advertised_host: Option<String>,
    advertised_port: Option<u16>,
    #[serde(default)]
    dangerous_allow_plaintext: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPassword {
    file: Option<PathBuf>,
    env: Option<String>,
}

pub(super) fn read(entry: &Document<'_>, base: Option<&Path>, findings: &mut Vec<Finding>) -> Option<Backend> {
    let raw: RawPostgres = entry.read(findings)?;
    let before = findings.len();
    let database = raw.database.unwrap_or_else(|| "postgres".to_owned());
    for (key, text) in [("host", &raw.host), ("username", &raw.username), ("database", &database)] {
        if text.trim().is_empty() || text.len() > 255 || text.chars().any(char::is_control) {
            findings.push(entry.finding(key, "is a name of 255 bytes at most, without control characters"));
        }
    }
    let is_socket = raw.host.starts_with('/');
    let tls = match raw.tls.as_deref() {
        None => !is_socket,
        Some("require") if is_socket => {
            findings.push(entry.finding("tls", "a Unix socket has none; leave it out"));
            true
        }
        Some("require") => true,
        Some("disable") => {
            if !is_socket && !is_loopback(&raw.host) && !raw.dangerous_allow_plaintext {
                let reason = "to another machine anybody on the path reads what is sent and answers in the server's \
                              name; use \"require\"";
                findings.push(entry.finding("tls", reason));
            }
            false
        }
        Some(other) => {
            findings.push(entry.finding("tls", format!("{other:?} is not \"require\" or \"disable\"")));
            true
        }
    };
    if raw.ca_file.is_some() && !tls {
        findings.push(entry.finding("ca_file", "means nothing without TLS"));
    }
    let ca_file = match raw.ca_file {
        None => None,
        Some(file) => Some(entry.existing_file("ca_file", &file, base, findings)?),
    };
    let certificate = (raw.certificate_file, raw.key_file);
    // Whatever else is written there is not repeated: it may be the password.
    let password = raw.password.map(|value| value.try_into().unwrap_or(RawPassword { file: None, env: None }));
    let login = read_login(entry, base, password, certificate, is_socket, findings)?;
    if matches!(login, Login::Certificate { .. }) && !tls {
        findings.push(entry.finding("certificate_file", "is shown over TLS only"));
    }
    let connections = raw.connections.unwrap_or(10);
    if !(2..=MAX_CONNECTIONS).contains(&connections) {
        findings.push(entry.finding("connections", format!("{connections} is not between 2 and {MAX_CONNECTIONS}")));
    }
    let (host, port) = (raw.host, raw.port.unwrap_or(5432));
    let advertised_host = raw.advertised_host.unwrap_or_else(|| host.clone());
    if advertised_host.trim().is_empty() || advertised_host.chars().any(|c| c.is_control() || c.is_whitespace()) {
        findings.push(entry.finding("advertised_host", "is the name of a machine, as callers reach it"));
    }
    let postgres = Postgres {
        host,
        port,
        database,
        username: raw.username,
        login,
        tls,
        ca_file,
        connections,
        advertised_host,
        advertised_port: raw.advertised_port.unwrap_or(port),
    };
    (findings.len() == before).then(|| Backend { name: raw.name, kind: BackendKind::Postgres(Box::new(postgres)) })
}

fn read_login(
    entry: &Document<'_>,
    base: Option<&Path>,
    password: Option<RawPassword>,
    certificate: (Option<PathBuf>, Option<PathBuf>),
    is_socket: bool,
    findings: &mut Vec<Finding>,
) -> Option<Login> {
    match (password, certificate) {
        (Some(RawPassword { file: Some(file), env: None }), (None, None)) => {
            entry.existing_file("password", &file, base, findings).map(Login::PasswordFile)
        }
        (Some(RawPassword { file: None, env: Some(name) }), (None, None)) => {
            // As with files: a bundle that was sent would have the broker send what it finds to where the bundle says.
            if base.is_none() {
                let reason = "names what lies on the broker's machine, which only a bundle that lies there as a folder \
                              may";
                findings.push(entry.finding("password", reason));
                return None;
            }
            Some(Login::PasswordEnv(name))
        }
        (Some(_), (None, None)) => {
            let reason = "says where it is: { file = \"…\" } or { env = \"…\" }, one of them";
            findings.push(entry.finding("password", reason));
            None
        }
        (None, (Some(certificate), Some(key))) => Some(Login::Certificate {
            certificate_file: entry.existing_file("certificate_file", &certificate, base, findings)?,
            key_file: entry.existing_file("key_file", &key, base, findings)?,
        }),
        (None, (None, None)) if is_socket && base.is_none() => {
            let reason = "is a socket of the broker's machine, where it is known by its user alone: only a bundle that \
                          lies there as a folder may name it";
            findings.push(entry.finding("host", reason));
            None
        }
        (None, (None, None)) if is_socket => Some(Login::Socket),
        (None, (None, None)) => {
            findings.push(entry.finding("password", "is missing; or give certificate_file and key_file"));
            None
        }
        (None, _) => {
            findings.push(entry.finding("certificate_file", "goes with key_file: give both"));
            None
        }
        (Some(_), _) => {
            findings.push(entry.finding("password", "and certificate_file: give one of them"));
            None
        }
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RIGHT: &str = "[[backend]]\nname = \"db\"\nkind = \"postgres\"\nhost = \"db.internal\"\nusername = \
                         \"hallpass\"\npassword = { file = \"password\" }\n";

    /// What is found in `text`, below a folder that has a password in it, or without one.
    fn found(text: &str, has_folder: bool) -> Result<Backend, String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("password"), "secret").unwrap();
        let document = Document::parse(Path::new("backends.toml"), text).unwrap();
        let mut findings = Vec::new();
        let entry = document.entries("backend", &mut findings).pop().unwrap();
        let read = read(&entry, has_folder.then_some(folder.path()), &mut findings);
        let lines: Vec<_> = findings.iter().map(ToString::to_string).collect();
        read.filter(|_| lines.is_empty()).ok_or_else(|| lines.join("\n"))
    }

    #[test]
    fn what_is_not_said_is_what_is_safe() {
        let BackendKind::Postgres(settings) = found(RIGHT, true).unwrap().kind else { panic!("another kind") };
        assert!(settings.tls && settings.ca_file.is_none());
        assert_eq!(
            (settings.port, settings.advertised_port, settings.advertised_host.as_str()),
            (5432, 5432, "db.internal")
        );
        assert_eq!(settings.database, "postgres");
    }

    #[test]
    fn what_would_not_be_safe_or_means_nothing_is_refused_by_its_key() {
        let with = |more: &str| format!("{RIGHT}{more}\n");
        let change = |from: &str, to: &str| RIGHT.replace(from, to);
        let password = "password = { file = \"password\" }\n";
        let refused = [
            ("tls", with("tls = \"disable\"")),
            ("tls", with("tls = \"prefer\"")),
            ("ca_file", with("ca_file = \"not-there.pem\"")),
            ("connections", with("connections = 1")),
            ("advertised_host", with("advertised_host = \" \"")),
            ("password", change(password, "")),
            ("password", change("{ file = \"password\" }", "{ }")),
            ("password", change("{ file = \"password\" }", "\"in the clear\"")),
            ("password", change("file = \"password\"", "file = \"not-there\"")),
            ("certificate_file", change(password, "certificate_file = \"password\"\n")),
            ("password", with("certificate_file = \"password\"\nkey_file = \"password\"")),
            ("host", change("db.internal", " ")),
            ("username", change("\"hallpass\"", "\"\"")),
            ("sslmode", with("sslmode = \"require\"")),
        ];
        for (key, text) in refused {
            let reason = found(&text, true).expect_err(&text);
            assert!(reason.contains(key) && !reason.contains("in the clear"), "{key}: {reason}");
        }
        found(&with("tls = \"disable\"").replace("db.internal", "127.0.0.1"), true).unwrap();
        found(&with("tls = \"disable\"\ndangerous_allow_plaintext = true"), true).unwrap();
        found(&change("db.internal", "/run/postgresql").replace(password, ""), true).unwrap();
    }

    #[test]
    fn a_bundle_that_was_sent_names_nothing_of_the_brokers_machine() {
        found(RIGHT, false).unwrap_err();
        found(&RIGHT.replace("file = \"password\"", "env = \"DB_PASSWORD\""), false).unwrap_err();
        found(
            &RIGHT.replace("db.internal", "/run/postgresql").replace("password = { file = \"password\" }\n", ""),
            false,
        )
        .unwrap_err();
        found(&RIGHT.replace("file = \"password\"", "env = \"DB_PASSWORD\""), true).unwrap();
    }
}
