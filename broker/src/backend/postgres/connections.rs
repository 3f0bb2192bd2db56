//! The broker's own connections to a server: a few, kept, looked at before they are used again, made anew when they died.
//!
//! Whoever has a connection and is given up in the middle of something takes it along: only what was finished is kept.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hallpass_core::secret::Secret;
use hallpass_core::time::Clock;
use std::sync::Arc;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_postgres::{Client, Config, NoTls, config::SslMode};

use super::failure::Failure;
use super::tls::Tls;
use crate::config::backend::{Postgres, PostgresLogin};

/// How long connecting may take, with the handshake and the login.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);
/// How long a statement of the broker's may run at the server: shorter than a call, so that it ends there too.
const STATEMENT_TIMEOUT: &str = "8s";
/// A connection that was not used for so long is asked whether it is there.
const TRUSTED_FOR: Duration = Duration::from_secs(1);
/// How long it may take to say so.
const CHECK_TIMEOUT: Duration = Duration::from_secs(1);
/// How long to wait for a connection of others to become free.
const LONGEST_WAIT: Duration = Duration::from_secs(3);
/// Longest password file.
const MAX_PASSWORD_BYTES: u64 = 4096;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To make something, or to look.
    Make,
    /// To undo something: however many make, some connections are left for this.
    Undo,
}

/// The connections to one server.
pub(super) struct Connections {
    settings: Postgres,
    tls: Option<Tls>,
    clock: Arc<dyn Clock>,
    making: Semaphore,
    undoing: Semaphore,
    /// By database, each with the monotonic time at which it was used last.
    idle: Mutex<HashMap<String, Vec<(Client, Duration)>>>,
}

/// A connection in use.
pub(super) struct Connection<'a> {
    client: Client,
    database: String,
    connections: &'a Connections,
    _place: SemaphorePermit<'a>,
}

impl std::ops::Deref for Connection<'_> {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Connection<'_> {
    /// Gives it back for others: nothing runs on it, and nothing was changed about it.
    pub(super) fn keep(self) {
        let now = self.connections.clock.monotonic();
        if !self.client.is_closed() {
            self.connections.idle().entry(self.database).or_default().push((self.client, now));
        }
    }
}

impl Connections {
    pub(super) fn new(settings: Postgres, clock: Arc<dyn Clock>) -> anyhow::Result<Self> {
        let own = match &settings.login {
            PostgresLogin::Certificate { certificate_file, key_file } => {
                Some((certificate_file.as_path(), key_file.as_path()))
            }
            _ => None,
        };
        let tls = if settings.tls { Some(Tls::new(settings.ca_file.as_deref(), own)?) } else { None };
        let for_undoing = (settings.connections / 3).max(1);
        Ok(Self {
            making: Semaphore::new(settings.connections - for_undoing),
            undoing: Semaphore::new(for_undoing),
            settings,
            tls,
            clock,
            idle: Mutex::default(),
        })
    }

    pub(super) fn settings(&self) -> &Postgres {
        &self.settings
    }

    /// A connection to `database`, which answered a moment ago. Nothing was sent where there is none.
    pub(super) async fn take(&self, purpose: Purpose, database: &str) -> Result<Connection<'_>, Failure> {
        let places = if purpose == Purpose::Make { &self.making } else { &self.undoing };
        let place = match tokio::time::timeout(LONGEST_WAIT, places.acquire()).await {
            Ok(Ok(place)) => place,
            _ => return Err(Failure::not_sent("every connection that the broker may have is in use")),
        };
        let found = match self.idle_one(database).await {
            Some(client) => client,
            None => self.connect(database).await?,
        };
        Ok(Connection { client: found, database: database.to_owned(), connections: self, _place: place })
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, HashMap<String, Vec<(Client, Duration)>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn idle_one(&self, database: &str) -> Option<Client> {
        // Each try takes one away, and nobody has more than this.
        for _ in 0..self.settings.connections {
            let (client, used_at) = self.idle().get_mut(database)?.pop()?;
            if client.is_closed() {
                continue;
            }
            if self.clock.monotonic().saturating_sub(used_at) < TRUSTED_FOR {
                return Some(client);
            }
            if let Ok(Ok(())) = tokio::time::timeout(CHECK_TIMEOUT, client.check_connection()).await {
                return Some(client);
            }
        }
        None
    }

    async fn connect(&self, database: &str) -> Result<Client, Failure> {
        // Connections to other databases that nobody uses give way: together they are not more than was said.
        self.forget_others(database);
        let mut config = Config::new();
        let settings = &self.settings;
        config.host(&settings.host).port(settings.port).dbname(database).user(&settings.username);
        config.application_name("hallpass").connect_timeout(CONNECT_TIMEOUT).tcp_user_timeout(CONNECT_TIMEOUT);
        config.ssl_mode(if self.tls.is_some() { SslMode::Require } else { SslMode::Disable });
        if let Some(password) = self.password().await? {
            config.password(password.expose());
        }
        let connecting = async {
            let client = match &self.tls {
                Some(tls) => {
                    let (client, connection) = config.connect(tls.clone()).await?;
                    tokio::spawn(connection);
                    client
                }
                None => {
                    let (client, connection) = config.connect(NoTls).await?;
                    tokio::spawn(connection);
                    client
                }
            };
            let settings = format!(
                // Nothing that a user made in a schema of its own is run in the broker's name, an operator least of all.
                "SET search_path = pg_catalog, pg_temp; SET statement_timeout = '{STATEMENT_TIMEOUT}'; SET lock_timeout = '5s'; \
                 SET standard_conforming_strings = on; SET client_min_messages = error"
            );
            client.batch_execute(&settings).await?;
            Ok::<_, tokio_postgres::Error>(client)
        };
        match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(Ok(client)) => Ok(client),
            Ok(Err(error)) => Err(Failure::connecting(&error)),
            Err(_) => Err(Failure::not_sent("it does not answer in time to a connection")),
        }
    }

    fn forget_others(&self, database: &str) {
        let mut idle = self.idle();
        let kept: usize = idle.values().map(Vec::len).sum();
        if kept >= self.settings.connections {
            idle.retain(|name, _| name == database);
        }
    }

    async fn password(&self) -> Result<Option<Secret>, Failure> {
        match &self.settings.login {
            PostgresLogin::PasswordFile(file) => {
                let length = tokio::fs::metadata(file).await.map_or(0, |about| about.len());
                let read = if length > MAX_PASSWORD_BYTES {
                    Err(std::io::ErrorKind::FileTooLarge.into())
                } else {
                    tokio::fs::read_to_string(file).await
                };
                let text = Secret::new(read.map_err(|error| {
                    Failure::not_sent(format!("the password cannot be read from {}: {error}", file.display()))
                })?);
                Ok(Some(Secret::new(text.expose().trim_end_matches(['\r', '\n']).to_owned())))
            }
            PostgresLogin::PasswordEnv(name) => match std::env::var(name) {
                Ok(password) => Ok(Some(Secret::new(password))),
                Err(_) => Err(Failure::not_sent(format!("the environment variable {name} is not there"))),
            },
            PostgresLogin::Certificate { .. } | PostgresLogin::Socket => Ok(None),
        }
    }
}
