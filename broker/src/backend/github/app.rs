//! The App, as GitHub knows it: it signs who it is with its private key.
//! <https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app/generating-a-json-web-token-jwt-for-a-github-app>

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hallpass_core::port::Signer;
use hallpass_core::secret::Secret;
use hallpass_core::time::{Clock, Timestamp, Ttl};
use serde::Serialize;

use crate::backend::jws::sign;

/// How much earlier than now a token says it was made, as GitHub advises: its clock may be behind.
const BACKDATED: Ttl = Ttl::from_secs(60);
/// How long a token lives from now on. GitHub takes none that ends more than ten minutes later than its own clock says.
const LIFE: Ttl = Ttl::from_mins(9);
/// A token is made anew when less than this is left of it.
const LEAST_LEFT: Ttl = Ttl::from_mins(1);

/// Gives the App's private key, as it is now: somebody may have changed it.
pub type AppKey = Arc<dyn Fn() -> Result<Arc<dyn Signer>, String> + Send + Sync>;

pub(super) struct App {
    id: String,
    key: AppKey,
    clock: Arc<dyn Clock>,
    made: Mutex<Option<Made>>,
}

struct Made {
    token: Arc<Secret>,
    ends_at: Timestamp,
}

#[derive(Serialize)]
struct Claims<'a> {
    iat: i64,
    exp: i64,
    iss: &'a str,
}

impl App {
    pub(super) fn new(id: &str, key: AppKey, clock: Arc<dyn Clock>) -> Self {
        Self { id: id.to_owned(), key, clock, made: Mutex::default() }
    }

    /// A token that says who the App is; an RSA signature costs more than a millisecond, and so it is used again.
    pub(super) fn token(&self) -> Result<Arc<Secret>, String> {
        let now = self.clock.now();
        if let Some(made) = self.made().as_ref().filter(|made| now.plus(LEAST_LEFT) < made.ends_at) {
            return Ok(Arc::clone(&made.token));
        }
        let signer = (self.key)()?;
        let ends_at = now.plus(LIFE);
        let claims = Claims { iat: now.minus(BACKDATED).as_secs(), exp: ends_at.as_secs(), iss: &self.id };
        let token = sign(signer.as_ref(), "JWT", &claims).ok_or("the App's private key cannot sign")?;
        let token = Arc::new(token);
        *self.made() = Some(Made { token: Arc::clone(&token), ends_at });
        Ok(token)
    }

    /// The token was not taken: the next is made with the key as it is then.
    pub(super) fn forget(&self) {
        *self.made() = None;
    }

    fn made(&self) -> MutexGuard<'_, Option<Made>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
