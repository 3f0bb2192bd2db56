//! The credentials that the machine gives the broker, sought where AWS's own tools seek them and in their order: the
//! environment, the shared file, a web identity token, the container's endpoint, the instance's metadata service.
//!
//! The first that is there counts; if it does not work that is an error, and no other is tried. What expires is asked for
//! again ahead of its end.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hallpass_core::secret::Secret;
use hallpass_core::time::{Clock, Timestamp, Ttl};
use reqwest::Method;
use serde::{Deserialize, Deserializer};
use tokio::sync::Mutex;
use url::{Host, Url};
use zeroize::Zeroizing;

use super::answers::Assumed;
use super::query::Service;
use super::signing::Keys;
use crate::outbound::{AllowHttp, Call, Outbound, Reply};

/// How long before their end keys are asked for again.
const AHEAD: Ttl = Ttl::from_mins(5);
/// How long keys without an end are used before they are read again: a file may have new ones.
const KEPT: Ttl = Ttl::from_mins(5);
/// Most bytes of a document or a file.
const MAX_BYTES: usize = 64 * 1024;
/// The metadata services are next door.
const DEADLINE: Duration = Duration::from_secs(2);
/// Where containers of ECS and of EKS find their credentials.
const CONTAINER_HOSTS: [&str; 3] = ["169.254.170.2", "169.254.170.23", "fd00:ec2::23"];
/// Where instances find their metadata.
const INSTANCE_HOSTS: [&str; 2] = ["169.254.169.254", "fd00:ec2::254"];

/// What the environment says under a name.
pub type Environment = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// The default chain.
pub(super) struct Chain {
    http: Arc<Outbound>,
    clock: Arc<dyn Clock>,
    environment: Environment,
    sts: Service,
    cached: Mutex<Option<Found>>,
}

/// Keys, and when they are sought again.
struct Found {
    keys: Arc<Keys>,
    until: Timestamp,
}

/// Why there are no keys.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the default credential chain: {0}")]
pub(super) struct NoKeys(String);

impl Chain {
    pub(super) fn new(sts: Service, environment: Environment) -> Self {
        let (http, clock) = (Arc::clone(&sts.http), Arc::clone(&sts.clock));
        Self { http, clock, environment, sts, cached: Mutex::default() }
    }

    /// The keys that are good now.
    pub(super) async fn keys(&self) -> Result<Arc<Keys>, NoKeys> {
        let mut cached = self.cached.lock().await;
        if let Some(found) = cached.as_ref().filter(|found| self.clock.now() < found.until) {
            return Ok(Arc::clone(&found.keys));
        }
        let (keys, expires_at) = self.seek().await?;
        let until = match expires_at {
            Some(expires_at) => expires_at.minus(AHEAD),
            None => self.clock.now().plus(KEPT),
        };
        let keys = Arc::new(keys);
        *cached = Some(Found { keys: Arc::clone(&keys), until });
        Ok(keys)
    }

    async fn seek(&self) -> Result<(Keys, Option<Timestamp>), NoKeys> {
        if let Some(keys) = self.environment()? {
            return Ok((keys, None));
        }
        if let Some(keys) = self.shared_file().await? {
            return Ok((keys, None));
        }
        if let Some(file) = self.value("AWS_WEB_IDENTITY_TOKEN_FILE") {
            return self.web_identity(Path::new(&file)).await;
        }
        if let Some(endpoint) = self.container()? {
            return self.ask_container(&endpoint).await;
        }
        if self.value("AWS_EC2_METADATA_DISABLED").is_some_and(|disabled| disabled.eq_ignore_ascii_case("true")) {
            return Err(NoKeys("nothing in the environment, and the instance's metadata is disabled there".to_owned()));
        }
        self.ask_instance().await
    }

    fn value(&self, name: &str) -> Option<String> {
        (self.environment)(name).filter(|value| !value.is_empty())
    }

    fn environment(&self) -> Result<Option<Keys>, NoKeys> {
        let Some(access_key_id) = self.value("AWS_ACCESS_KEY_ID") else { return Ok(None) };
        let secret = self.value("AWS_SECRET_ACCESS_KEY");
        let secret =
            secret.ok_or_else(|| NoKeys("AWS_ACCESS_KEY_ID is set without AWS_SECRET_ACCESS_KEY".to_owned()))?;
        Ok(Some(Keys {
            access_key_id,
            secret_access_key: Secret::new(secret),
            session_token: self.value("AWS_SESSION_TOKEN").map(Secret::new),
        }))
    }

    async fn shared_file(&self) -> Result<Option<Keys>, NoKeys> {
        let named = self.value("AWS_SHARED_CREDENTIALS_FILE").map(PathBuf::from);
        let usual = || self.value("HOME").map(|home| Path::new(&home).join(".aws/credentials"));
        let Some(file) = named.or_else(usual) else { return Ok(None) };
        let Ok(text) = tokio::fs::read_to_string(&file).await.map(Zeroizing::new) else { return Ok(None) };
        let profile = self.value("AWS_PROFILE").unwrap_or_else(|| "default".to_owned());
        Ok(in_profile(&text, &profile))
    }

    async fn web_identity(&self, file: &Path) -> Result<(Keys, Option<Timestamp>), NoKeys> {
        let role = self.value("AWS_ROLE_ARN");
        let role = role.ok_or_else(|| NoKeys("AWS_WEB_IDENTITY_TOKEN_FILE is set without AWS_ROLE_ARN".to_owned()))?;
        let session = self.value("AWS_ROLE_SESSION_NAME").unwrap_or_else(|| "hallpass-broker".to_owned());
        let token = read_token(file).await?;
        let parameters = vec![
            ("RoleArn".to_owned(), role.as_str()),
            ("RoleSessionName".to_owned(), session.as_str()),
            ("WebIdentityToken".to_owned(), token.as_str()),
        ];
        let answer: Assumed = self
            .sts
            .call("AssumeRoleWithWebIdentity", &parameters, None)
            .await
            .map_err(|error| NoKeys(error.to_string()))?;
        let credentials = answer.result.credentials;
        let keys = Keys {
            access_key_id: credentials.access_key_id,
            secret_access_key: credentials.secret_access_key,
            session_token: Some(credentials.session_token),
        };
        Ok((keys, Some(expiration(&credentials.expiration)?)))
    }

    /// Where the container's credentials are. Plain http goes to the addresses that AWS names, and to this machine.
    fn container(&self) -> Result<Option<Url>, NoKeys> {
        let relative = self.value("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
        let relative = relative.map(|path| format!("http://{}{path}", CONTAINER_HOSTS[0]));
        let Some(text) = relative.or_else(|| self.value("AWS_CONTAINER_CREDENTIALS_FULL_URI")) else { return Ok(None) };
        let refused = || NoKeys("the container's endpoint is no URL that may be called".to_owned());
        let url = Url::parse(&text).map_err(|_| refused())?;
        let allowed = url.scheme() == "https" || is_next_door(&url, &CONTAINER_HOSTS);
        if allowed { Ok(Some(url)) } else { Err(refused()) }
    }

    async fn ask_container(&self, endpoint: &Url) -> Result<(Keys, Option<Timestamp>), NoKeys> {
        let token = match self.value("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") {
            Some(file) => Some(read_token(Path::new(&file)).await?),
            None => self.value("AWS_CONTAINER_AUTHORIZATION_TOKEN").map(Zeroizing::new),
        };
        let headers: Vec<_> = token.iter().map(|token| ("authorization", token.as_str())).collect();
        let reply = self.ask(Method::GET, endpoint, &headers).await?;
        document(&reply)
    }

    /// IMDSv2: a token first, which no redirected or forged request could ask for.
    async fn ask_instance(&self) -> Result<(Keys, Option<Timestamp>), NoKeys> {
        let base = self.value("AWS_EC2_METADATA_SERVICE_ENDPOINT");
        let base = base.unwrap_or_else(|| format!("http://{}", INSTANCE_HOSTS[0]));
        let refused = || NoKeys("the metadata service's endpoint is none that may be called".to_owned());
        let base = Url::parse(&base).ok().filter(|url| is_next_door(url, &INSTANCE_HOSTS)).ok_or_else(refused)?;
        let at = |path: &str| base.join(path).map_err(|_| refused());
        let lifetime = [("x-aws-ec2-metadata-token-ttl-seconds", "300")];
        let token = self.ask(Method::PUT, &at("/latest/api/token")?, &lifetime).await?;
        let token = text(&token)?;
        let by = [("x-aws-ec2-metadata-token", token.trim())];
        let roles = "/latest/meta-data/iam/security-credentials/";
        let role = self.ask(Method::GET, &at(roles)?, &by).await?;
        let role = text(&role)?.lines().next().unwrap_or_default().trim().to_owned();
        let is_name = |b: u8| b.is_ascii_alphanumeric() || b"_+=,.@-".contains(&b);
        if role.is_empty() || !role.bytes().all(is_name) {
            return Err(NoKeys("the instance has no role".to_owned()));
        }
        document(&self.ask(Method::GET, &at(&format!("{roles}{role}"))?, &by).await?)
    }

    async fn ask(&self, method: Method, url: &Url, headers: &[(&'static str, &str)]) -> Result<Reply, NoKeys> {
        let call = Call {
            method,
            url,
            content_type: "application/json",
            headers,
            body: Zeroizing::default(),
            max_bytes: MAX_BYTES,
            deadline: DEADLINE,
            // Only to the addresses that were checked: they are next door, and speak nothing else.
            allow_http: AllowHttp::DangerousAnywhere,
        };
        let reply = self.http.call(call).await;
        let reply = reply.map_err(|error| NoKeys(format!("{}: {error}", url.host_str().unwrap_or_default())))?;
        match reply.status {
            200 => Ok(reply),
            status => Err(NoKeys(format!("{} answers {status}", url.host_str().unwrap_or_default()))),
        }
    }
}

impl std::fmt::Debug for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chain").finish_non_exhaustive()
    }
}

fn is_next_door(url: &Url, hosts: &[&str]) -> bool {
    let address = match url.host() {
        Some(Host::Ipv4(address)) => IpAddr::V4(address),
        Some(Host::Ipv6(address)) => IpAddr::V6(address),
        Some(Host::Domain(name)) => return url.scheme() == "http" && name == "localhost",
        None => return false,
    };
    url.scheme() == "http" && (address.is_loopback() || hosts.contains(&address.to_string().as_str()))
}

/// The keys of one profile in the shared file.
fn in_profile(text: &str, wanted: &str) -> Option<Keys> {
    let mut profile = None;
    let (mut id, mut secret, mut token) = (None, None, None);
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            profile = Some(name.trim());
        } else if let Some((key, value)) = line.split_once('=').filter(|_| profile == Some(wanted)) {
            let value = value.trim().to_owned();
            match key.trim() {
                "aws_access_key_id" => id = Some(value),
                "aws_secret_access_key" => secret = Some(Secret::new(value)),
                "aws_session_token" => token = Some(Secret::new(value)),
                _ => {}
            }
        }
    }
    Some(Keys { access_key_id: id?, secret_access_key: secret?, session_token: token })
}

async fn read_token(file: &Path) -> Result<Zeroizing<String>, NoKeys> {
    let text = tokio::fs::read_to_string(file).await.map(Zeroizing::new);
    let text = text.map_err(|error| NoKeys(format!("{} cannot be read: {error}", file.display())))?;
    let token = text.trim();
    if token.is_empty() || token.len() > MAX_BYTES {
        return Err(NoKeys(format!("{} holds no token", file.display())));
    }
    Ok(Zeroizing::new(token.to_owned()))
}

/// As containers and instances are given them.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Document {
    access_key_id: String,
    #[serde(deserialize_with = "secret")]
    secret_access_key: Secret,
    #[serde(deserialize_with = "secret")]
    token: Secret,
    expiration: String,
}

fn document(reply: &Reply) -> Result<(Keys, Option<Timestamp>), NoKeys> {
    // Not the parser's error: it may quote a secret.
    let read = serde_json::from_slice::<Document>(&reply.body);
    let read = read.map_err(|_| NoKeys("the answer holds no credentials".to_owned()))?;
    let expires_at = expiration(&read.expiration)?;
    let keys = Keys {
        access_key_id: read.access_key_id,
        secret_access_key: read.secret_access_key,
        session_token: Some(read.token),
    };
    Ok((keys, Some(expires_at)))
}

fn expiration(text: &str) -> Result<Timestamp, NoKeys> {
    Timestamp::parse_rfc3339(text).map_err(|_| NoKeys("the end of the credentials does not read".to_owned()))
}

fn text(reply: &Reply) -> Result<&str, NoKeys> {
    std::str::from_utf8(&reply.body).map_err(|_| NoKeys("the metadata service answers no text".to_owned()))
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
    String::deserialize(deserializer).map(Secret::new)
}

#[cfg(test)]
mod tests;
