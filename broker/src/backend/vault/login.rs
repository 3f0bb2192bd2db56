//! The broker's session with the server: had when it is needed, renewed ahead of its end, and had anew once where the
//! server denies what it permitted.
//!
//! Nothing of a grant depends on it: the tokens of grants are orphans, and live on when the session is revoked.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use hallpass_core::secret::Secret;
use hallpass_core::time::Clock;
use serde::{Deserialize, Serialize};

use super::wire::Text;
use crate::backend::own_identity::OwnIdentity;
use crate::config::backend::vault::{Login, SecretSource};
use crate::outbound::token_file;
use crate::outbound::vault::{Answered, Ask, VaultClient, VaultError};
use crate::runtime::variable;

/// A session that was had this recently is what the server gives now: that it denies something is no sign of its age.
const RECENT: Duration = Duration::from_secs(10);
/// So long nobody tries again after a login that failed: whoever comes meanwhile is told the same.
const PAUSE: Duration = Duration::from_millis(500);
/// How long a token of a file is taken for what the file says, where the server does not tell its end.
const REREAD: Duration = Duration::from_secs(60);

/// The broker before one server.
pub(super) struct Broker {
    client: VaultClient,
    login: Login,
    identity: OwnIdentity,
    clock: Arc<dyn Clock>,
    session: ArcSwapOption<Session>,
    logging_in: tokio::sync::Mutex<()>,
    failed: Mutex<Option<(Duration, VaultError)>>,
}

/// A session.
struct Session {
    token: Secret,
    /// In monotonic time.
    began: Duration,
    life: Duration,
    is_renewable: bool,
}

impl Broker {
    pub(super) fn new(client: VaultClient, login: Login, identity: OwnIdentity, clock: Arc<dyn Clock>) -> Self {
        let (session, logging_in, failed) = Default::default();
        Self { client, login, identity, clock, session, logging_in, failed }
    }

    /// Asks with the token of a grant's parent, not with the broker's own.
    pub(super) async fn ask_by(&self, ask: Ask<'_>, token: &Secret) -> Result<Answered, VaultError> {
        self.client.ask(ask.by(token)).await
    }

    /// Asks as the broker. Where that is denied, it is asked once more with a fresh session: the one that was used may be
    /// gone, or of the time before a change of what its role permits.
    pub(super) async fn ask(&self, ask: Ask<'_>) -> Result<Answered, VaultError> {
        let session = self.session().await?;
        match self.client.ask(ask.clone().by(&session.token)).await {
            Err(denied) if denied.is_denied() => match self.fresh_after(&session).await? {
                Some(fresh) => self.client.ask(ask.by(&fresh.token)).await,
                None => Err(denied),
            },
            answered => answered,
        }
    }

    /// Renews the session when two thirds of its life are over, or has a new one.
    pub(super) async fn tend(&self) -> Result<(), VaultError> {
        let session = self.session().await?;
        let age = self.clock.monotonic().saturating_sub(session.began);
        if age < session.life.mul_f64(2.0 / 3.0) {
            return Ok(());
        }
        let _one = self.logging_in.lock().await;
        if session.is_renewable {
            let asked = self.clock.monotonic();
            let renewed =
                self.client.ask(Ask::write("auth/token/renew-self", &NOTHING)?.by(&session.token).repeatable());
            let renewed: Result<LoggedIn, _> = renewed.await.and_then(|answered| answered.read());
            if let Ok(LoggedIn { auth }) = renewed
                && auth.life() >= session.life.mul_f64(0.5)
            {
                let token = Secret::new(session.token.expose().to_owned());
                let renewed = Session { token, began: asked, life: auth.life(), is_renewable: auth.renewable };
                self.session.store(Some(Arc::new(renewed)));
                return Ok(());
            }
        }
        self.log_in().await.map(drop)
    }

    /// The session that there is, or a new one.
    async fn session(&self) -> Result<Arc<Session>, VaultError> {
        if let Some(session) = self.live() {
            return Ok(session);
        }
        let _one = self.logging_in.lock().await;
        if let Some(session) = self.live() {
            return Ok(session);
        }
        self.log_in().await
    }

    fn live(&self) -> Option<Arc<Session>> {
        let now = self.clock.monotonic();
        self.session.load_full().filter(|session| now.saturating_sub(session.began) < session.life)
    }

    /// Another session than this one, where it is of use to have one.
    async fn fresh_after(&self, used: &Arc<Session>) -> Result<Option<Arc<Session>>, VaultError> {
        let _one = self.logging_in.lock().await;
        if let Some(other) = self.live().filter(|other| !Arc::ptr_eq(other, used)) {
            return Ok(Some(other));
        }
        if self.clock.monotonic().saturating_sub(used.began) < RECENT {
            let looked_up = self.client.ask(Ask::read("auth/token/lookup-self").by(&used.token)).await;
            if looked_up.is_ok() {
                return Ok(None);
            }
        }
        self.log_in().await.map(Some)
    }

    /// Logs in. Whoever calls holds `logging_in`.
    async fn log_in(&self) -> Result<Arc<Session>, VaultError> {
        let asked = self.clock.monotonic();
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((_, failed)) = failed.filter(|(at, _)| asked.saturating_sub(*at) < PAUSE) {
            return Err(failed);
        }
        let outcome = match &self.login {
            Login::TokenFile { token_file } => self.take(token_file, asked).await,
            login => self.enter(login, asked).await,
        };
        // Whatever a login does, it mints nothing.
        let outcome = outcome.map_err(|why| VaultError::Unavailable(format!("the broker's login there: {why}")));
        let failed = outcome.as_ref().err().map(|error| (self.clock.monotonic(), error.clone()));
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = failed;
        let session = Arc::new(outcome?);
        self.session.store(Some(Arc::clone(&session)));
        Ok(session)
    }

    async fn enter(&self, login: &Login, asked: Duration) -> Result<Session, String> {
        let told = |error: VaultError| error.to_string();
        let (mount, answered) = match login {
            Login::Jwt { mount, role, audience, .. } => {
                let jwt = self.identity.token(audience, None).map_err(|error| error.to_string())?;
                (mount, self.post(mount, &ByJwt { role, jwt: jwt.expose() }).await)
            }
            Login::Kubernetes { mount, role, token_file } => {
                let jwt = token_file::read(token_file).await?;
                (mount, self.post(mount, &ByJwt { role, jwt: jwt.expose() }).await)
            }
            Login::Approle { mount, role_id, secret_id } => {
                let (role_id, secret_id) = (secret(role_id).await?, secret(secret_id).await?);
                let body = ByApprole { role_id: role_id.expose(), secret_id: secret_id.expose() };
                (mount, self.post(mount, &body).await)
            }
            Login::TokenFile { .. } => return Err("a token file is no login".to_owned()),
        };
        let answered = answered.map_err(|error| format!("auth/{mount}/login: {error}"))?;
        let LoggedIn { auth } = answered.read().map_err(told)?;
        let (life, is_renewable) = (auth.life(), auth.renewable);
        Ok(Session { token: auth.client_token.into_secret(), began: asked, life, is_renewable })
    }

    async fn post(&self, mount: &str, body: &impl Serialize) -> Result<Answered, VaultError> {
        let path = format!("auth/{mount}/login");
        // A session that nobody heard of ends by itself.
        self.client.ask(Ask::write(&path, body)?.repeatable()).await
    }

    /// The token of a file, which somebody else keeps alive; it is renewed here, too, where it can be.
    async fn take(&self, file: &std::path::Path, asked: Duration) -> Result<Session, String> {
        let token = token_file::read(file).await?;
        let looked_up = self.client.ask(Ask::read("auth/token/lookup-self").by(&token)).await;
        let (life, is_renewable) = match looked_up.and_then(|answered| answered.read()) {
            Ok(LookedUp { data: Own { ttl, renewable } }) if ttl > 0 => {
                (Duration::from_secs(ttl).min(if renewable { Duration::MAX } else { REREAD }), renewable)
            }
            Ok(LookedUp { .. }) => (REREAD, false),
            // It may not look at itself: whether it is valid shows when it is used.
            Err(denied) if denied.is_denied() => (REREAD, false),
            Err(error) => return Err(error.to_string()),
        };
        Ok(Session { token, began: asked, life, is_renewable })
    }
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker").field("client", &self.client).finish_non_exhaustive()
    }
}

async fn secret(source: &SecretSource) -> Result<Secret, String> {
    match source {
        SecretSource::File(file) => token_file::read(file).await,
        SecretSource::Env(name) => {
            let value = variable::read(name).ok_or_else(|| format!("the environment has no {name}"))?;
            let text = std::str::from_utf8(value.trim_ascii()).map_err(|_| format!("{name} is no text"))?;
            Ok(Secret::new(text.to_owned()))
        }
    }
}

/// An empty object.
const NOTHING: Nothing = Nothing {};

#[derive(Serialize)]
struct Nothing {}

#[derive(Serialize)]
struct ByJwt<'a> {
    role: &'a str,
    jwt: &'a str,
}

#[derive(Serialize)]
struct ByApprole<'a> {
    role_id: &'a str,
    secret_id: &'a str,
}

#[derive(Deserialize)]
struct LoggedIn {
    auth: Auth,
}

#[derive(Deserialize)]
struct Auth {
    client_token: Text,
    lease_duration: u64,
    #[serde(default)]
    renewable: bool,
}

impl Auth {
    /// A token without an end, such as the root token, is looked at again after a while.
    fn life(&self) -> Duration {
        if self.lease_duration == 0 { Duration::from_secs(3600) } else { Duration::from_secs(self.lease_duration) }
    }
}

#[derive(Deserialize)]
struct LookedUp {
    data: Own,
}

#[derive(Deserialize)]
struct Own {
    ttl: u64,
    #[serde(default)]
    renewable: bool,
}
