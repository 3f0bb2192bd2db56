//! What a dynamic path makes: how it is asked for, and what the answer is to the caller.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hallpass_core::credential::{CredentialMaterial, IssueOrder};
use hallpass_core::port::IssueError;
use hallpass_core::secret::{Secret, SecretObject};
use hallpass_core::time::{Clock, Timestamp};
use reqwest::Method;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::login::Broker;
use super::parameters::Parameters;
use super::wire::Text;
use super::{issue_error, refused, ssh};
use crate::config::backend::vault::Engine;
use crate::outbound::vault::{Ask, VaultError};

/// A credential that a path made.
pub(super) struct Minted {
    pub(super) material: CredentialMaterial,
    /// When it ends at the latest.
    pub(super) ends_at: Timestamp,
    /// What ends it, where it has a lease.
    pub(super) lease: Option<String>,
    /// The serial number, of a certificate.
    pub(super) serial: Option<String>,
}

/// How long what is made is to live.
#[derive(Clone, Copy)]
pub(super) struct Life {
    /// When it must have ended.
    pub(super) until: Timestamp,
    /// How long that is from now, in whole seconds, rounded down and less the time that the call may take.
    pub(super) seconds: u64,
}

/// Asks the role's path with the token of the grant's parent.
pub(super) async fn mint(
    broker: &Broker,
    clock: &dyn Clock,
    order: &IssueOrder,
    parameters: &Parameters<'_>,
    token: &Secret,
    life: Life,
) -> Result<Minted, IssueError> {
    let path = parameters.path.unwrap_or_default();
    let ask = if parameters.method == Method::GET {
        // Some paths are read and make something all the same: nothing is asked twice.
        Ask { is_repeatable: parameters.engine == Engine::Kv, ..Ask::read(path) }
    } else {
        Ask::write(path, &body(order, parameters, life)).map_err(issue_error)?
    };
    let answered = broker.ask_by(ask, token).await.map_err(issue_error)?;
    let answer: Answer<'_> = answered.read().map_err(issue_error)?;
    let relative = clock
        .now()
        .as_millis()
        .saturating_add(i64::try_from(answer.lease_duration).unwrap_or(i64::MAX).saturating_mul(1000));
    let lease_ends_at = life.until.min(Timestamp::from_millis(relative));
    let lease = Some(answer.lease_id).filter(|lease| !lease.is_empty());
    let unreadable =
        || IssueError::OutcomeUnknown { internal: format!("{path} answered something else than expected") };
    let data = answer.data.ok_or_else(unreadable)?;
    let (material, ends_at, serial) = match parameters.engine {
        Engine::Database | Engine::RabbitMq | Engine::Token => {
            if lease.is_none() {
                let internal = format!("{path} answered without a lease: nothing would end what it made");
                return Err(IssueError::OutcomeUnknown { internal });
            }
            (user(data, parameters)?, lease_ends_at, None)
        }
        Engine::Pki => certificate(data)?,
        Engine::Ssh => {
            let Signed { signed_key } = read(data)?;
            let ends_at = ssh::valid_before(&signed_key).ok_or_else(unreadable)?;
            (CredentialMaterial::Ssh { certificate: signed_key }, ends_at, None)
        }
        Engine::Kubernetes => {
            let ServiceAccount { service_account_token: token } = read(data)?;
            let ends_at = expiry(token.expose()).ok_or_else(unreadable)?;
            let (server, ca) = (parameters.server.map(str::to_owned), parameters.ca.map(str::to_owned));
            (CredentialMaterial::Kubernetes { token: token.into_secret(), server, ca }, ends_at, None)
        }
        // It does not end at all; the grant does.
        Engine::Kv => (static_secret(data, clock.now())?, life.until, None),
        Engine::Other if lease.is_some() => (values(data)?, lease_ends_at, None),
        Engine::Other => (values(data)?, life.until, None),
    };
    Ok(Minted { material, ends_at, lease, serial })
}

/// The role's data, with what is the grant's to say.
fn body(order: &IssueOrder, parameters: &Parameters<'_>, life: Life) -> Map<String, Value> {
    let mut body = parameters.data.cloned().unwrap_or_default();
    let mut set = |name: &str, value: String| body.insert(name.to_owned(), Value::from(value));
    match parameters.engine {
        Engine::Pki => {
            set("not_after", life.until.floor_to_second().to_rfc3339());
            if let Some(csr) = &order.csr {
                set("csr", csr.clone());
            }
        }
        Engine::Ssh => {
            set("ttl", format!("{}s", life.seconds));
            set("public_key", order.csr.clone().unwrap_or_default());
        }
        Engine::Kubernetes => {
            set("ttl", format!("{}s", life.seconds));
        }
        Engine::Token | Engine::Database | Engine::RabbitMq | Engine::Kv | Engine::Other => {}
    }
    body
}

/// What is wrong with the key that a request brings, or does not bring.
pub(super) fn check_key(order: &IssueOrder, parameters: &Parameters<'_>) -> Result<(), IssueError> {
    let wrong = |detail: &str| Err(IssueError::unfit("csr", detail));
    match (&order.csr, parameters.takes_a_key(), parameters.engine) {
        (None, false, _) => Ok(()),
        (Some(_), false, _) => wrong("this role makes its own keys, or none: it takes no `csr`"),
        (None, true, Engine::Ssh) => {
            wrong("this role certifies the caller's own key: send it as `csr`, as OpenSSH has it")
        }
        (None, true, _) => wrong("this role certifies the caller's own key: send its request as `csr`, PEM"),
        (Some(key), true, Engine::Ssh) if !ssh::is_public_key(key) => wrong("`csr` is no public key as OpenSSH has it"),
        (Some(_), true, _) => Ok(()),
    }
}

fn user(data: &RawValue, parameters: &Parameters<'_>) -> Result<CredentialMaterial, IssueError> {
    let Some((host, port, database)) = parameters.database else { return values(data) };
    let User { username, password } = read(data)?;
    let (password, host, database) = (password.into_secret(), host.to_owned(), database.to_owned());
    Ok(CredentialMaterial::Database { username, password, host, port, database })
}

fn values(data: &RawValue) -> Result<CredentialMaterial, IssueError> {
    object(Secret::new(data.get().to_owned()))
}

fn object(text: Secret) -> Result<CredentialMaterial, IssueError> {
    let data = SecretObject::parse(text).map_err(|error| IssueError::OutcomeUnknown { internal: error.to_string() })?;
    Ok(CredentialMaterial::VaultSecret { data })
}

/// A secret that somebody wrote: it is said to be one, and how old it is where the engine keeps versions.
fn static_secret(data: &RawValue, now: Timestamp) -> Result<CredentialMaterial, IssueError> {
    let versioned: Option<Versioned<'_>> = serde_json::from_str(data.get()).ok();
    let (values, age) = match &versioned {
        Some(Versioned { data: Some(values), metadata }) => {
            let created_at = Timestamp::parse_rfc3339(metadata.created_time).ok();
            (*values, created_at.map(|at| now.since(at).as_secs()))
        }
        Some(Versioned { data: None, .. }) => return Err(refused("the secret's last version was deleted")),
        None => (data, None),
    };
    let age = age.map_or_else(|| "null".to_owned(), |age| age.to_string());
    let mut text = String::with_capacity(values.get().len() + 64);
    for part in ["{\"static_secret\":true,\"age_seconds\":", &age, ",\"data\":", values.get(), "}"] {
        text.push_str(part);
    }
    object(Secret::new(text))
}

fn certificate(data: &RawValue) -> Result<(CredentialMaterial, Timestamp, Option<String>), IssueError> {
    let Issued { certificate, issuing_ca, ca_chain, private_key, serial_number, expiration } = read(data)?;
    // The last of the chain is whom the others are trusted for.
    let (root, intermediates) = match ca_chain.split_last() {
        Some((root, intermediates)) => (root.clone(), intermediates.to_vec()),
        None => (issuing_ca, Vec::new()),
    };
    let line = |pem: &str| format!("{}\n", pem.trim_end());
    let chain: String = std::iter::once(&certificate).chain(&intermediates).map(|pem| line(pem)).collect();
    let material = CredentialMaterial::X509 {
        certificate_chain: chain,
        private_key: private_key.map(Text::into_secret),
        trust_bundle: line(&root),
    };
    Ok((material, Timestamp::from_secs(expiration), Some(serial_number)))
}

/// `exp` of a token that is only passed on.
fn expiry(token: &str) -> Option<Timestamp> {
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let Expiring { exp } = serde_json::from_slice(&claims).ok()?;
    Some(Timestamp::from_secs(exp))
}

fn read<'a, T: Deserialize<'a>>(data: &'a RawValue) -> Result<T, IssueError> {
    serde_json::from_str(data.get()).map_err(|_| {
        issue_error(VaultError::Unknown("it answered with something else than its engine does".to_owned()))
    })
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(default)]
    lease_id: String,
    #[serde(default)]
    lease_duration: u64,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct User {
    username: String,
    password: Text,
}

#[derive(Deserialize)]
struct Signed {
    signed_key: String,
}

#[derive(Deserialize)]
struct ServiceAccount {
    service_account_token: Text,
}

#[derive(Deserialize)]
struct Versioned<'a> {
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    metadata: Version<'a>,
}

#[derive(Deserialize)]
struct Version<'a> {
    created_time: &'a str,
}

#[derive(Deserialize)]
struct Issued {
    certificate: String,
    #[serde(default)]
    issuing_ca: String,
    #[serde(default)]
    ca_chain: Vec<String>,
    private_key: Option<Text>,
    serial_number: String,
    expiration: i64,
}

#[derive(Deserialize)]
struct Expiring {
    exp: i64,
}
