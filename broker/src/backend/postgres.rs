//! Users of a PostgreSQL server (14 or later): one for each grant.
//!
//! The invariant: whatever of a user there is at the server, its name alone undoes it, and that is planned before
//! anything is sent. It is made in one transaction, with its end (`VALID UNTIL`), so that a lost answer leaves all of it
//! or nothing; its password is sent as a verifier, which nobody can log in with.
//!
//! `VALID UNTIL` ends logging in, and not a session that is there already: those the broker ends. Should the broker never
//! run again, a session that was open when its grant fell due stays open until it has been idle for as long as the grant
//! was to last: that is set for the user, who may set it otherwise for its own session.

mod connections;
mod failure;
mod given;
mod inventory;
mod parameters;
mod reach;
mod rights;
mod statement;
mod tls;
mod undo;
mod user;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use hallpass_core::credential::{CredentialMaterial, Effect, Handle, IssueOrder, IssuedCredential, RevocationClass};
use hallpass_core::entropy::Entropy;
use hallpass_core::id::BackendName;
use hallpass_core::port::{
    CredentialBackend, ExtendError, InvalidParameters, InventoryItem, InventoryScope, IssueError, RevokeError, Undone,
};
use hallpass_core::role::Role;
use hallpass_core::secret::Secret;
use hallpass_core::time::{Clock, Timestamp, Ttl};
use zeroize::Zeroizing;

use self::connections::{Connections, Purpose};
use self::failure::Failure;
use self::parameters::Parameters;
use self::reach::Reach;
use self::statement::{identifier, literal};
use self::user::{Comment, Undoing};
use crate::config::backend::Postgres;

/// Characters of passwords: none that a URL or a shell would take for something else.
const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// Makes users of one server, and drops them.
pub struct PostgresBackend {
    name: BackendName,
    /// Origin of the broker, by which it tells its users from those of others.
    broker: String,
    connections: Connections,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    /// The group roles of the roles in force: whoever else is in them has another way to the same.
    groups: Mutex<BTreeSet<String>>,
}

impl PostgresBackend {
    /// A backend for the server of `settings`, of the broker at `public_url`. Connects when it is used.
    ///
    /// # Errors
    /// When a certificate cannot be read.
    pub fn new(
        name: BackendName,
        settings: Postgres,
        public_url: &str,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> anyhow::Result<Self> {
        let connections = Connections::new(settings, Arc::clone(&clock))?;
        let broker = public_url.to_owned();
        Ok(Self { name, broker, connections, clock, entropy, groups: Mutex::default() })
    }

    fn database<'a>(&'a self, parameters: &'a Parameters) -> &'a str {
        parameters.database.as_deref().unwrap_or(&self.connections.settings().database)
    }

    fn password(&self, length: usize) -> Result<Zeroizing<String>, IssueError> {
        let mut password = Zeroizing::new(String::with_capacity(length));
        // A byte gives a character four times out of five; enough of them, and some tries more.
        for _ in 0..8 {
            let mut random = Zeroizing::new([0_u8; 128]);
            let unavailable = |error: hallpass_core::entropy::EntropyUnavailable| IssueError::Unavailable {
                internal: error.to_string(),
            };
            self.entropy.fill(random.as_mut_slice()).map_err(unavailable)?;
            // 248 is the largest multiple of 62 in a byte: no character comes more often than another.
            let characters = random.iter().filter(|byte| **byte < 248);
            let characters = characters.filter_map(|byte| ALPHABET.get(usize::from(*byte % 62)).copied());
            let missing = length.saturating_sub(password.len());
            password.extend(characters.map(char::from).take(missing));
            if password.len() == length {
                return Ok(password);
            }
        }
        Err(IssueError::Unavailable { internal: "the random generator gives no variety".to_owned() })
    }

    fn comment(&self, order: &IssueOrder, parameters: &Parameters) -> Result<String, Failure> {
        let comment = Comment {
            hallpass: self.broker.clone(),
            backend: self.name.as_str().to_owned(),
            grant: order.grant,
            owner: order.owner.name.as_str().to_owned(),
            role: order.role.name.as_str().to_owned(),
            purpose: order.purpose.clone(),
            database: self.database(parameters).to_owned(),
            reassign_owned_to: parameters.reassign_owned_to.clone(),
        };
        serde_json::to_string(&comment).map_err(|error| Failure::refused(error.to_string()))
    }

    /// Everything of a user, in one transaction that is not committed yet. The last row tells what came of it.
    fn statements(
        &self,
        order: &IssueOrder,
        parameters: &Parameters,
        undoing: &Undoing,
        password: &str,
    ) -> Result<Zeroizing<String>, Failure> {
        let sql = |text: &str| literal(text).map_err(Failure::refused);
        let name = identifier(&undoing.user).map_err(Failure::refused)?;
        let verifier = Zeroizing::new(postgres_protocol::password::scram_sha_256(password.as_bytes()));
        let ends_at = order.expires_at.floor_to_second();
        let until = sql(&ends_at.to_rfc3339())?;
        let limit = parameters.connection_limit;
        let groups = parameters.roles.iter().map(|role| identifier(role)).collect::<Result<Vec<_>, _>>();
        let groups = groups.map_err(Failure::refused)?;
        let within = if groups.is_empty() { String::new() } else { format!(" IN ROLE {}", groups.join(", ")) };
        let idle = ends_at.since(order.issued_at).as_secs().max(1);
        let mut text = Zeroizing::new(format!(
            "BEGIN;\nCREATE ROLE {name} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION PASSWORD {} \
             VALID UNTIL {until} CONNECTION LIMIT {limit}{within};\nCOMMENT ON ROLE {name} IS {};\n\
             ALTER ROLE {name} SET idle_session_timeout = '{idle}s';\n\
             ALTER ROLE {name} SET idle_in_transaction_session_timeout = '{idle}s';\n",
            sql(&verifier)?,
            sql(&self.comment(order, parameters)?)?,
        ));
        let mut values = undoing.values.clone();
        values.insert("expiration".to_owned(), ends_at.to_rfc3339());
        for statement in &parameters.creation {
            text.push_str(&statement.filled(&values).map_err(Failure::refused)?);
            text.push_str("\n;");
        }
        // The role's own statements may have changed it.
        let reach = reach::query(&undoing.user, &ends_at.to_rfc3339(), parameters).map_err(Failure::refused)?;
        text.push_str(&reach);
        Ok(text)
    }

    async fn create(&self, order: &IssueOrder, handle: &Handle) -> Result<IssuedCredential, IssueError> {
        let parameters = Parameters::of(&order.role).map_err(refused_parameters)?;
        let ends_at = order.expires_at.floor_to_second();
        if ends_at <= self.clock.now().max(order.issued_at) {
            let detail = "nothing is left of the grant's life, in whole seconds".to_owned();
            return Err(IssueError::refused(detail));
        }
        let mut undoing = Undoing::from_handle(handle).map_err(unreadable)?;
        let password = self.password(parameters.password_length)?;
        let statements = self.statements(order, &parameters, &undoing, &password)?;
        let connection = self.connections.take(Purpose::Make, &undoing.database).await?;
        let answered = connection.simple_query(&statements).await;
        let answered = match answered {
            Ok(answered) => answered,
            Err(error) => {
                let failure = Failure::before_commit(&error);
                return Err(if failure.is_duplicate() { failure.into_unknown() } else { failure }.into());
            }
        };
        let reach = Reach::of(&answered);
        let why = reach.as_ref().map_or(Some("the server does not show the user"), |reach| reach.refused.as_deref());
        if let Some(why) = why {
            // The transaction ends with the connection, which nobody keeps.
            let _ = connection.batch_execute("ROLLBACK").await;
            return Err(Failure::overreaching(why).into());
        }
        connection.batch_execute("COMMIT").await.map_err(|error| Failure::at_commit(&error))?;
        if parameters.creation.is_empty() {
            connection.keep();
        }
        undoing.oid = reach.map(|reach| reach.oid);
        let settings = self.connections.settings();
        let material = CredentialMaterial::Database {
            username: undoing.user.clone(),
            password: Secret::new(password.to_string()),
            host: settings.advertised_host.clone(),
            port: settings.advertised_port,
            database: undoing.database.clone(),
        };
        let handle = Some(undoing.to_handle().map_err(unreadable)?);
        Ok(IssuedCredential { material, expires_at: ends_at, handle, signed_by: None })
    }
}

#[async_trait]
impl CredentialBackend for PostgresBackend {
    fn kind(&self) -> &'static str {
        "postgres"
    }

    fn effect(&self) -> Effect {
        Effect::Remote
    }

    fn class(&self, _role: &Role) -> RevocationClass {
        RevocationClass::Hard
    }

    fn min_life(&self, _role: &Role) -> Ttl {
        Ttl::from_secs(1)
    }

    fn max_life(&self, _role: &Role) -> Option<Ttl> {
        None
    }

    fn yields_single_token(&self, _role: &Role) -> bool {
        false
    }

    fn validate(&self, role: &Role) -> Result<(), InvalidParameters> {
        Parameters::of(role).map(drop)
    }

    fn serve(&self, roles: &[Arc<Role>]) {
        let groups = roles.iter().filter_map(|role| Parameters::of(role).ok()).flat_map(|parameters| parameters.roles);
        *self.groups.lock().unwrap_or_else(PoisonError::into_inner) = groups.collect();
    }

    fn plan(&self, order: &IssueOrder) -> Result<Handle, IssueError> {
        let parameters = Parameters::of(&order.role).map_err(refused_parameters)?;
        Undoing::of(order, &parameters, self.database(&parameters)).to_handle().map_err(unreadable)
    }

    async fn issue(&self, order: &IssueOrder, handle: &Handle) -> Result<IssuedCredential, IssueError> {
        self.create(order, handle).await
    }

    async fn extend(&self, handle: &Handle, until: Timestamp) -> Result<Timestamp, ExtendError> {
        let undoing = Undoing::from_handle(handle).map_err(|error| ExtendError::Refused(error.to_string()))?;
        let until = until.floor_to_second();
        let refused = |why| ExtendError::from(Failure::refused(why));
        let name = identifier(&undoing.user).map_err(refused)?;
        let mut values = undoing.values.clone();
        values.insert("expiration".to_owned(), until.to_rfc3339());
        let mut text =
            format!("BEGIN;\nALTER ROLE {name} VALID UNTIL {};\n", literal(&until.to_rfc3339()).map_err(refused)?);
        for statement in &undoing.renew {
            text.push_str(&statement.filled(&values).map_err(refused)?);
            text.push_str("\n;");
        }
        text.push_str("COMMIT");
        let connection = self.connections.take(Purpose::Make, &undoing.database).await?;
        connection.batch_execute(&text).await.map_err(|error| Failure::before_commit(&error))?;
        if undoing.renew.is_empty() {
            connection.keep();
        }
        Ok(until)
    }

    async fn revoke(&self, handle: &Handle) -> Result<Undone, RevokeError> {
        let undoing = Undoing::from_handle(handle).map_err(|error| RevokeError { internal: error.to_string() })?;
        undo::undo(&self.connections, &undoing).await?;
        Ok(Undone::Gone)
    }

    async fn inventory(&self) -> Result<Vec<InventoryItem>, RevokeError> {
        let groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let connection = self.connections.take(Purpose::Undo, &self.connections.settings().database).await?;
        let items = inventory::list(&connection, &self.broker, self.name.as_str(), &groups).await?;
        connection.keep();
        Ok(items)
    }

    fn inventory_scope(&self) -> InventoryScope {
        InventoryScope::Full
    }

    async fn tend(&self) -> Result<(), RevokeError> {
        // What is kept is looked at, and made anew where it died: the next grant finds it.
        let connection = self.connections.take(Purpose::Undo, &self.connections.settings().database).await?;
        connection.keep();
        Ok(())
    }
}

impl std::fmt::Debug for PostgresBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresBackend").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A role that was checked when it was loaded, by a version that took what this one does not.
fn refused_parameters(error: InvalidParameters) -> IssueError {
    IssueError::refused(format!("the role's table [postgres]: {error}"))
}

fn unreadable(error: serde_json::Error) -> IssueError {
    IssueError::refused(format!("what is planned cannot be written or read: {error}"))
}
