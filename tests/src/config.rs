//! What a broker under test is configured with: the server file and the bundle.
//!
//! Everything here is in the format of the configuration contract, and in this file alone, so that a change of the
//! format is a change of this file.

use std::fs;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::Issuer;
use crate::key::random_bytes;

/// The audience by which proofs name the broker.
pub const AUDIENCE: &str = "https://broker.test";
/// A role whose credential is a JWT, open to every workload of the trusted issuers.
pub const ROLE: &str = "app/deploy";
/// A role whose credential is a certificate, open to the same.
pub const CERTIFICATE_ROLE: &str = "app/tls";
/// A role for one repository's main branch alone, told by the claims that a code host signs.
pub const RELEASE_ROLE: &str = "app/release";
/// A role that no policy permits.
pub const CLOSED_ROLE: &str = "app/closed";
/// A role whose owner is no longer active.
pub const ORPHANED_ROLE: &str = "app/orphaned";
/// A role that one policy permits, while another of its policies cannot be evaluated.
pub const ERRING_ROLE: &str = "app/erring";
/// The subject that the bundle knows as a member of the owning team: it may end and read every grant.
pub const OPERATOR: &str = "operator:alice";
/// Stands for the broker's own URL as the audience of a role.
pub const BROKER_ITSELF: &str = "$broker";
/// The longest life of a credential of [`ROLE`].
pub const MAX_TTL_SECONDS: u64 = 900;
/// The clock difference tolerated on proofs.
pub const LEEWAY_SECONDS: i64 = 60;

/// Server file and bundle, before they are written.
#[derive(Clone, Debug)]
pub struct Setup {
    /// `[[issuer]]` entries.
    pub issuers: Vec<Value>,
    /// `[[attestor]]` entries.
    pub attestors: Vec<Value>,
    /// Members of the owner `platform` beside [`OPERATOR`].
    pub members: Vec<Value>,
    /// `[[backend]]` entries beside `jwt` and `x509`.
    pub backends: Vec<Value>,
    /// Role files by role name.
    pub roles: Vec<(String, Value)>,
    /// Cedar files by name.
    pub policies: Vec<(String, String)>,
    /// Sections of the server file, laid over the standard ones.
    pub server: Value,
    /// Mode of the key file.
    pub key_file_mode: u32,
    /// Whether bundles come over the API, of which this one is the first.
    pub over_the_api: bool,
}

/// An `[[issuer]]` entry of kind `oidc` that trusts `issuer` under `name`.
#[must_use]
pub fn trust(name: &str, issuer: &Issuer, algorithms: &[&str]) -> Value {
    json!({
        "name": name,
        "kind": "oidc",
        "url": issuer.url(),
        "audiences": [AUDIENCE],
        "algorithms": algorithms,
        "single_use": true,
        "leeway": format!("{LEEWAY_SECONDS}s"),
        "max_age": "1h",
        "max_lifetime": "24h",
        // The issuers of the tests are on loopback.
        "dangerous_allow_http": true,
    })
}

/// Has an issuer's keys fetched again this often.
pub fn fetch_keys_every(issuer: &mut Value, seconds: u32) {
    let every = format!("{seconds}s");
    issuer["keys_max_age"] = json!(every);
    issuer["keys_min_interval"] = json!(every);
}

impl Setup {
    /// The standard house: the named issuers trusted for ES256, RS256 and EdDSA, and the roles of this module.
    #[must_use]
    pub fn trusting(issuers: &[(&str, &Issuer)]) -> Self {
        Self::with_issuers(
            issuers.iter().map(|(name, issuer)| trust(name, issuer, &["ES256", "RS256", "EdDSA"])).collect(),
        )
    }

    /// The same with these `[[issuer]]` entries.
    #[must_use]
    pub fn with_issuers(issuers: Vec<Value>) -> Self {
        let role = |backend: &str, owner: &str, parameters: Value| {
            let mut role = json!({
                "owner": owner,
                "description": "Reaches what the tests reach.",
                "backend": backend,
                "ttl": {"default": "10m", "max": format!("{MAX_TTL_SECONDS}s")},
                "purpose": {"required": true},
            });
            role[backend] = parameters;
            role
        };
        let jwt = || json!({"audience": "https://service.test"});
        Self {
            issuers,
            attestors: Vec::new(),
            members: Vec::new(),
            backends: Vec::new(),
            roles: vec![
                (ROLE.to_owned(), role("jwt", "platform", jwt())),
                (RELEASE_ROLE.to_owned(), role("jwt", "platform", jwt())),
                (CLOSED_ROLE.to_owned(), role("jwt", "platform", jwt())),
                (ERRING_ROLE.to_owned(), role("jwt", "platform", jwt())),
                (ORPHANED_ROLE.to_owned(), role("jwt", "departed", jwt())),
                (CERTIFICATE_ROLE.to_owned(), role("x509", "platform", json!({"dns_names": ["app.test"]}))),
            ],
            policies: vec![("standard.cedar".to_owned(), POLICIES.to_owned())],
            server: json!({}),
            key_file_mode: 0o600,
            over_the_api: false,
        }
    }

    /// Lays sections over the server file: `{"limits": {…}}`.
    #[must_use]
    pub fn server(mut self, sections: Value) -> Self {
        merge(&mut self.server, sections);
        self
    }

    /// Has bundles come over the API, this one being what the very first start publishes.
    #[must_use]
    pub fn over_the_api(self) -> Self {
        Self { over_the_api: true, ..self }
    }

    /// Adds a backend.
    #[must_use]
    pub fn backend(mut self, entry: Value) -> Self {
        self.backends.push(entry);
        self
    }

    /// Adds a role of `backend` with these parameters, which every workload of the trusted issuers may have.
    #[must_use]
    pub fn role(mut self, name: &str, backend: &str, kind: &str, parameters: Value) -> Self {
        let mut role = json!({
            "owner": "platform",
            "description": "Reaches what the tests reach.",
            "backend": backend,
            "ttl": {"default": "10m", "max": format!("{MAX_TTL_SECONDS}s")},
            "purpose": {"required": true},
        });
        role[kind] = parameters;
        self.roles.push((name.to_owned(), role));
        let id = name.replace('/', "-");
        let text = format!(
            "@id(\"{id}\")\npermit (principal is Workload, action == Action::\"mint\", resource == Role::\"{name}\");\n"
        );
        self.policy(&format!("{id}.cedar"), &text)
    }

    /// Adds a Cedar file.
    #[must_use]
    pub fn policy(mut self, name: &str, text: &str) -> Self {
        self.policies.push((name.to_owned(), text.to_owned()));
        self
    }

    /// Changes the entry of every issuer.
    #[must_use]
    pub fn each_issuer(mut self, change: impl Fn(&mut Value)) -> Self {
        self.issuers.iter_mut().for_each(change);
        self
    }

    /// Writes everything into `folder` and gives the server file's path.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn write(&self, folder: &Path, listen: SocketAddr, operations: SocketAddr) -> io::Result<PathBuf> {
        let bundle = folder.join("bundle");
        fs::create_dir_all(bundle.join("policies"))?;
        let mut server = json!({
            "server": {
                "listen": listen.to_string(),
                "ops_listen": operations.to_string(),
                "public_url": format!("http://{listen}"),
            },
            "store": {"path": database(folder)},
            "keys": {"key_encryption_key_file": folder.join("kek")},
            "bundle": if self.over_the_api {
                json!({"source": "api", "bootstrap": bundle})
            } else {
                json!({"source": "files", "path": bundle})
            },
            "limits": {
                "unverified_refusals_per_source_per_minute": 100_000,
                "refusals_per_identity_per_minute": 100_000,
            },
        });
        merge(&mut server, self.server.clone());
        let key_file = folder.join("kek");
        if !key_file.exists() {
            write_key_file(&key_file, self.key_file_mode)?;
        }

        write_toml(&bundle.join("issuers.toml"), &json!({"issuer": self.issuers}))?;
        if !self.attestors.is_empty() {
            write_toml(&bundle.join("attestors.toml"), &json!({"attestor": self.attestors}))?;
        }
        let standard = [
            json!({"name": "jwt", "kind": "jwt"}),
            json!({"name": "x509", "kind": "x509", "trust_domain": "example.test"}),
        ];
        let backends: Vec<_> = standard.iter().chain(&self.backends).collect();
        write_toml(&bundle.join("backends.toml"), &json!({"backend": backends}))?;
        write_toml(&bundle.join("owners.toml"), &json!({"owner": self.owners()}))?;
        for (name, role) in &self.roles {
            let file = bundle.join("roles").join(format!("{name}.toml"));
            fs::create_dir_all(file.parent().unwrap_or(&bundle))?;
            let mut role = role.clone();
            if let Some(audience) = role.pointer_mut("/jwt/audience").filter(|audience| *audience == BROKER_ITSELF) {
                *audience = server["server"]["public_url"].clone();
            }
            write_toml(&file, &role)?;
        }
        for (name, text) in &self.policies {
            fs::write(bundle.join("policies").join(name), text)?;
        }
        let file = folder.join("hallpass.toml");
        write_toml(&file, &server)?;
        Ok(file)
    }

    fn owners(&self) -> Value {
        let issuer = self.issuers.first().map_or(Value::Null, |issuer| issuer["name"].clone());
        let owner = |name: &str, more: &[Value], active: bool| {
            let members: Vec<_> =
                [json!({"issuer": issuer, "subject": OPERATOR})].iter().chain(more).cloned().collect();
            json!({
                "name": name,
                "contacts": ["mailto:platform@example.test"],
                "members": members,
                "active": active,
            })
        };
        json!([owner("platform", &self.members, true), owner("departed", &[], false)])
    }
}

/// Writes a fresh key-encryption key.
///
/// # Errors
/// When there is a file already, or it cannot be written.
pub fn write_key_file(path: &Path, mode: u32) -> io::Result<()> {
    let mut key = fs::OpenOptions::new().create_new(true).write(true).mode(mode).open(path)?;
    key.write_all(STANDARD.encode(random_bytes::<32>()).as_bytes())
}

/// Where the store keeps its database.
#[must_use]
pub fn database(folder: &Path) -> PathBuf {
    folder.join("hallpass.db")
}

/// Puts another section in the place of one of the server file.
///
/// # Panics
/// When the file cannot be read or written.
pub fn replace_section(file: &Path, name: &str, section: Value) {
    let text = fs::read_to_string(file).expect("the server file");
    let mut server: Value = toml::from_str(&text).expect("TOML");
    server[name] = section;
    write_toml(file, &server).expect("the server file is written");
}

fn write_toml(file: &Path, content: &Value) -> io::Result<()> {
    fs::write(file, toml::to_string(content).map_err(io::Error::other)?)
}

/// Lays `over` upon `value`, object by object; null takes away.
fn merge(value: &mut Value, over: Value) {
    match (value, over) {
        (Value::Object(value), Value::Object(over)) => {
            for (name, over) in over {
                if over.is_null() {
                    value.remove(&name);
                    continue;
                }
                merge(value.entry(name).or_insert_with(|| Value::Object(Map::new())), over);
            }
        }
        (value, over) => *value = over,
    }
}

const POLICIES: &str = r#"
@id("workloads-mint")
permit (principal is Workload, action == Action::"mint", resource is Role)
when { resource in [Role::"app/deploy", Role::"app/tls", Role::"app/orphaned", Role::"app/erring"] };

@id("holders-keep-and-end-their-own")
permit (
  principal is Workload,
  action in [Action::"read", Action::"renew", Action::"revoke", Action::"introspect"],
  resource is Grant
)
when { context.holder };

@id("release-from-main-only")
permit (principal is Workload, action == Action::"mint", resource == Role::"app/release")
when {
  principal.hasTag("repository_id") && principal.getTag("repository_id") == "222" &&
  principal.hasTag("repository_owner_id") && principal.getTag("repository_owner_id") == "111" &&
  principal.hasTag("event_name") && principal.getTag("event_name") == "push" &&
  principal.hasTag("ref") && principal.getTag("ref") == "refs/heads/main" &&
  principal.hasTag("runner_environment") && principal.getTag("runner_environment") == "github-hosted"
};

@id("a-forbid-that-errs")
forbid (principal, action == Action::"mint", resource == Role::"app/erring")
when { context has ttl && context.ttl + 9223372036854775807 < 0 };

@id("team-reads-and-ends")
permit (principal in Group::"platform", action in [Action::"read", Action::"revoke"], resource);
"#;
