//! The places where people's credentials live, each a real server: OpenBao with its database engine on PostgreSQL, that
//! PostgreSQL itself, and ministack. They know nothing of any broker until [`Estate::admit`].
//!
//! What is alive is asked of these servers alone, never of the broker or its database.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::config::Setup;
use crate::ministack::{self, Keys, Ministack, REGION, allow, elements, trusting};
use crate::openbao::{Asker, OpenBao};
use crate::postgres::Postgres;
use crate::relay::{Passed, Relay};

/// A role whose credential is a token of OpenBao.
pub const TOKEN: &str = "real/token";
/// A role whose credential is a database's user, which OpenBao makes.
pub const LEASE: &str = "real/lease";
/// The same, with spares that are replaced after four seconds.
pub const BRIEF_LEASE: &str = "real/brief-lease";
/// A role whose credential is a database's user, which the broker makes.
pub const USER: &str = "real/user";
/// A role whose credential is a session of AWS.
pub const SESSION: &str = "real/session";
/// What the broker is allowed at OpenBao: what operators are told to allow.
const POLICY: &str = include_str!("../../deploy/vault/hallpass.hcl");
/// What the broker's own tokens are for at OpenBao.
const AT_OPENBAO: &str = "https://vault.test";
/// How long a server may take to say whether a credential works.
const PATIENCE: Duration = Duration::from_secs(1);
/// The bucket that sessions reach.
const BUCKET: &str = "artifacts";
/// The broker's own password at PostgreSQL.
pub const PASSWORD: &str = "the-brokers-own-password-at-postgres";

/// The servers.
#[derive(Debug)]
pub struct Estate {
    /// OpenBao.
    pub bao: OpenBao,
    /// PostgreSQL.
    pub postgres: Postgres,
    /// ministack.
    pub aws: Ministack,
    /// What the broker calls in OpenBao's place.
    pub at_bao: Option<Relay>,
    /// What the broker calls in ministack's place.
    pub at_aws: Option<Relay>,
    folder: TempDir,
}

/// A credential as its holder has it.
#[derive(Clone, Debug)]
pub enum Held {
    /// A token of OpenBao.
    Token(String),
    /// A user of PostgreSQL, whoever made it.
    User {
        /// Its name.
        name: String,
        /// Its password.
        password: String,
    },
    /// A session of AWS.
    Session(Keys),
}

/// Whose something alive is, by what stands at its server.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Whose {
    /// A grant's.
    Grant(String),
    /// A spare's.
    Spare(String),
}

/// Something that works at its server.
#[derive(Clone, Debug)]
pub struct Living {
    /// What it is there.
    pub name: String,
    /// Whose it is; none where nothing tells.
    pub whose: Option<Whose>,
    /// The credential, where a test can know it.
    pub held: Option<Held>,
}

/// Tries credentials at servers that may be away.
#[derive(Clone, Debug)]
pub struct Tried {
    bao: Asker,
    postgres: SocketAddr,
    aws: ministack::Asker,
}

impl Tried {
    /// Whether a credential works; none where its server does not say.
    pub async fn works(&self, held: &Held) -> Option<bool> {
        let tried = async {
            match held {
                Held::Token(token) => match self.bao.status(token, "secret/app").await? {
                    200 => Some(true),
                    403 => Some(false),
                    _ => None,
                },
                Held::User { name, password } => {
                    let mut config = tokio_postgres::Config::new();
                    config.host("127.0.0.1").port(self.postgres.port()).user(name).password(password).dbname("app");
                    match config.connect(tokio_postgres::NoTls).await {
                        Ok(_) => Some(true),
                        // The server itself says no.
                        Err(error) => error.as_db_error().map(|_| false),
                    }
                }
                Held::Session(keys) => match self.aws.read(keys, BUCKET).await? {
                    200 => Some(true),
                    403 => Some(false),
                    _ => None,
                },
            }
        };
        tokio::time::timeout(PATIENCE, tried).await.ok().flatten()
    }
}

impl Held {
    /// Of a credential as the broker gives it; none where it is of no server of the estate.
    ///
    /// # Panics
    /// When something is missing in it.
    #[must_use]
    pub fn of(credential: &Value) -> Option<Self> {
        let text = |name: &str| credential[name].as_str().unwrap_or_else(|| panic!("no {name}")).to_owned();
        match credential["type"].as_str()? {
            "vault_token" => Some(Self::Token(text("token"))),
            "database" => Some(Self::User { name: text("username"), password: text("password") }),
            "aws" => Some(Self::Session(Keys::of(credential))),
            _ => None,
        }
    }

    /// What of it must stand nowhere.
    #[must_use]
    pub fn secrets(&self) -> Vec<&str> {
        match self {
            Self::Token(token) => vec![token],
            Self::User { password, .. } => vec![password],
            Self::Session(keys) => [Some(keys.secret.as_str()), keys.token.as_deref()].into_iter().flatten().collect(),
        }
    }
}

impl Estate {
    /// All of them, with relays before OpenBao and ministack that write down what is made. None where something is not
    /// installed.
    pub async fn watched() -> Option<Self> {
        let mut estate = Self::at(OpenBao::start().await?).await?;
        estate.at_bao = Some(Relay::before(&estate.bao.url()).await);
        estate.at_aws = Some(Relay::before(&estate.aws.url()).await);
        Some(estate)
    }

    /// All of them, with this OpenBao.
    ///
    /// # Panics
    /// When one of them refuses to be set up.
    pub async fn at(bao: OpenBao) -> Option<Self> {
        let (postgres, aws) = (Postgres::start().await?, Ministack::start().await?);
        let folder = TempDir::with_prefix("hallpass-estate-").expect("a temporary folder");
        set_up_postgres(&postgres).await;
        set_up_bao(&bao, &postgres).await;
        aws.bucket(BUCKET).await;
        std::fs::write(folder.path().join("password"), PASSWORD).expect("a password file");
        if bao.is_over_tls() {
            std::fs::write(folder.path().join("openbao.pem"), bao.authority()).expect("an authority");
        }
        Some(Self { bao, postgres, aws, at_bao: None, at_aws: None, folder })
    }

    /// Adds the backends and a role of each to what a broker is configured with.
    #[must_use]
    pub fn known_to(&self, setup: Setup) -> Setup {
        let database = self.leased();
        let session = json!({"role_arn": "arn:aws:iam::123456789012:role/deploy"});
        let mut setup = setup
            .backend(self.vault())
            .backend(self.database())
            .backend(self.cloud())
            .role(TOKEN, "vault", "vault", json!({"policies": ["app"]}))
            .role(LEASE, "vault", "vault", database.clone())
            .role(BRIEF_LEASE, "vault", "vault", database)
            .role(USER, "orders-db", "postgres", json!({"roles": ["app_writer"], "database": "app"}))
            .role(SESSION, "aws", "aws", session);
        for (name, role) in &mut setup.roles {
            match name.as_str() {
                SESSION => role["ttl"] = json!({"default": "20m", "max": "1h"}),
                BRIEF_LEASE => role["ttl"] = json!({"default": "20s", "max": "1m"}),
                _ => {}
            }
        }
        setup
    }

    /// The parameters of a role whose credential is a database's user, which OpenBao makes.
    #[must_use]
    pub fn leased(&self) -> Value {
        json!({
            "policies": ["db"], "path": "database/creds/app", "host": "127.0.0.1",
            "port": self.postgres.address().port(), "database": "app",
        })
    }

    /// Has OpenBao and AWS trust the broker that runs at the origin `issuer`, so that it needs no key of theirs.
    pub async fn admit(&self, issuer: &str) {
        let bao = &self.bao;
        bao.write("sys/policies/acl/hallpass", &json!({"policy": POLICY})).await;
        bao.write("sys/auth/jwt", &json!({"type": "jwt"})).await;
        let keys = json!({"jwks_url": format!("{issuer}/.well-known/jwks.json"), "bound_issuer": issuer});
        bao.write("auth/jwt/config", &keys).await;
        let role = json!({
            "role_type": "jwt", "user_claim": "sub", "bound_subject": "hallpass:broker:vault",
            "bound_audiences": [AT_OPENBAO], "token_policies": ["hallpass"], "token_no_default_policy": true,
            "token_ttl": "10m",
        });
        bao.write("auth/jwt/role/hallpass", &role).await;
        let trust = trusting(issuer, "hallpass:broker:aws");
        self.aws.role("deploy", &trust).await;
        self.aws.role_with("hallpass-fence", &trust, &allow("iam:*")).await;
    }

    /// Whether a credential works at its server. A server that does not answer is no sign of it.
    pub async fn works(&self, held: &Held) -> bool {
        match held {
            Held::Token(token) => self.bao.get_as(token, "secret/app").await.0 == 200,
            Held::User { name, password } => self.postgres.connect(name, password, "app").await.is_ok(),
            Held::Session(keys) => self.aws.read(keys, BUCKET).await == 200,
        }
    }

    /// What tries credentials at servers that may be away.
    #[must_use]
    pub fn tried(&self) -> Tried {
        Tried { bao: self.bao.asker(), postgres: self.postgres.address(), aws: self.aws.asker() }
    }

    /// Everything of the broker at `issuer` that is alive at the servers.
    ///
    /// # Panics
    /// When a server does not answer.
    pub async fn living(&self, issuer: &str) -> Vec<Living> {
        let mut living = self.tokens(issuer).await;
        living.extend(self.users(issuer).await);
        living.extend(self.leased_users().await);
        living.extend(self.sessions().await);
        living
    }

    /// Tokens with the broker's metadata.
    async fn tokens(&self, issuer: &str) -> Vec<Living> {
        let mut living = Vec::new();
        for accessor in self.bao.accessors().await {
            let body = json!({"accessor": accessor});
            // It may have ended since it was listed.
            let Some(found) = self.bao.try_ask("auth/token/lookup-accessor", &body).await else { continue };
            let meta = &found["data"]["meta"];
            if meta["hallpass_instance"] == issuer {
                living.push(Living { name: format!("token {accessor}"), whose: whose(meta), held: None });
            }
        }
        living
    }

    /// Users that the broker made.
    async fn users(&self, issuer: &str) -> Vec<Living> {
        let query =
            "SELECT rolname::text, shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname LIKE 'hp\\_%'";
        let mut living = Vec::new();
        for row in self.postgres.rows(query).await {
            let (name, comment): (String, Option<String>) = (row.get(0), row.get(1));
            let comment: Value = comment.and_then(|comment| serde_json::from_str(&comment).ok()).unwrap_or_default();
            let ours = comment["hallpass"] == issuer;
            let grant = comment["grant"].as_str().filter(|_| ours).map(|grant| Whose::Grant(grant.to_owned()));
            living.push(Living { name: format!("user {name}"), whose: grant, held: None });
        }
        living
    }

    /// Users that OpenBao made: whose they are is known by the token that they were made under, as the relay saw it.
    async fn leased_users(&self) -> Vec<Living> {
        let passed = self.at_bao.as_ref().map(Relay::passed).unwrap_or_default();
        let parents: BTreeMap<_, _> = passed.iter().filter_map(parent).collect();
        let leased: BTreeMap<_, _> = passed.iter().filter_map(leased).collect();
        let mut living = Vec::new();
        for name in self.postgres.roles("v-%").await {
            let lease = leased.get(&name);
            let whose = lease.and_then(|(token, _)| parents.get(token)).cloned();
            let held = lease.map(|(_, password)| Held::User { name: name.clone(), password: password.clone() });
            living.push(Living { name: format!("leased user {name}"), whose, held });
        }
        living
    }

    /// Sessions of the role that grants are for: nobody lists them, but the relay saw each, and they are tried.
    async fn sessions(&self) -> Vec<Living> {
        let passed = self.at_aws.as_ref().map(Relay::passed).unwrap_or_default();
        let mut living = Vec::new();
        for (name, keys) in passed.iter().filter_map(assumed) {
            let held = Held::Session(keys);
            if self.works(&held).await {
                living.push(Living {
                    name: format!("session {name}"),
                    whose: Some(Whose::Grant(name)),
                    held: Some(held),
                });
            }
        }
        living
    }

    /// Whether something that was alive still is.
    pub async fn still_lives(&self, issuer: &str, one: &Living) -> bool {
        self.living(issuer).await.iter().any(|other| other.name == one.name)
    }

    fn vault(&self) -> Value {
        let url = self.at_bao.as_ref().map_or_else(|| self.bao.url(), |relay| relay.url().to_owned());
        let mut entry = json!({
            "name": "vault", "kind": "vault", "addresses": [url], "timeout": "2s",
            "login": {"method": "jwt", "role": "hallpass", "audience": AT_OPENBAO},
        });
        if self.bao.is_over_tls() && self.at_bao.is_none() {
            entry["ca_file"] = json!(self.file("openbao.pem"));
        }
        entry
    }

    fn database(&self) -> Value {
        json!({
            "name": "orders-db", "kind": "postgres", "host": "127.0.0.1", "port": self.postgres.address().port(),
            "username": "hallpass", "password": {"file": self.file("password")}, "ca_file": self.postgres.ca_file(),
        })
    }

    fn cloud(&self) -> Value {
        let url = self.at_aws.as_ref().map_or_else(|| self.aws.url(), |relay| relay.url().to_owned());
        let fence = json!({"role_arn": "arn:aws:iam::123456789012:role/hallpass-fence", "propagation": "0s"});
        json!({
            "name": "aws", "kind": "aws", "region": REGION, "sts_endpoint": url, "iam_endpoint": url, "fence": fence,
        })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// What an administrator of PostgreSQL prepares.
async fn set_up_postgres(postgres: &Postgres) {
    let broker = format!(
        "CREATE ROLE hallpass LOGIN CREATEROLE PASSWORD '{PASSWORD}'; CREATE ROLE app_writer NOLOGIN;
         GRANT app_writer TO hallpass WITH ADMIN OPTION; CREATE ROLE vault LOGIN SUPERUSER PASSWORD 'vault';"
    );
    postgres.run("postgres", &broker).await;
    postgres.run("postgres", "CREATE DATABASE app").await;
    let service = "CREATE TABLE orders (id int); GRANT SELECT, INSERT ON orders TO app_writer;";
    postgres.run("app", service).await;
}

/// What an administrator of OpenBao prepares: a secret that tokens reach, the database engine, and the token role.
async fn set_up_bao(bao: &OpenBao, postgres: &Postgres) {
    bao.mount_with("secret", json!({"type": "kv", "options": {"version": "1"}})).await;
    bao.write("secret/app", &json!({"flag": "up"})).await;
    bao.mount("database", "database").await;
    let connection = json!({
        "plugin_name": "postgresql-database-plugin",
        "allowed_roles": "app",
        "connection_url":
            format!("postgresql://{{{{username}}}}:{{{{password}}}}@{}/postgres?sslmode=require", postgres.address()),
        "username": "vault",
        "password": "vault",
    });
    bao.write("database/config/main", &connection).await;
    let made = "CREATE ROLE \"{{name}}\" LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}';";
    let role = json!({"db_name": "main", "creation_statements": [made], "default_ttl": "1h", "max_ttl": "24h"});
    bao.write("database/roles/app", &role).await;
    for (name, path) in [("app", "secret/app"), ("db", "database/creds/app")] {
        let policy = format!("path \"{path}\" {{ capabilities = [\"read\"] }}");
        bao.write(&format!("sys/policies/acl/{name}"), &json!({"policy": policy})).await;
    }
    let token_role = json!({"allowed_policies": "app,db", "orphan": true, "renewable": false, "token_type": "service"});
    bao.write("auth/token/roles/hallpass", &token_role).await;
}

/// The token that a call made, and whose it is.
fn parent(passed: &Passed) -> Option<(String, Whose)> {
    let made: Value = serde_json::from_str(&passed.answered).ok()?;
    let auth = made.get("auth").filter(|_| passed.path.starts_with("/v1/auth/token/create/"))?;
    Some((auth["client_token"].as_str()?.to_owned(), whose(&auth["metadata"])?))
}

/// The user that a call made, with the token that it was asked by and the password.
fn leased(passed: &Passed) -> Option<(String, (String, String))> {
    let made: Value = serde_json::from_str(&passed.answered).ok()?;
    let data = made.get("data").filter(|_| passed.path.starts_with("/v1/database/creds/"))?;
    Some((data["username"].as_str()?.to_owned(), (passed.token.clone()?, data["password"].as_str()?.to_owned())))
}

/// The session that a call made, with its name.
#[must_use]
pub fn assumed(passed: &Passed) -> Option<(String, Keys)> {
    let form = passed.asked.split('&').filter_map(|pair| pair.split_once('='));
    let form: BTreeMap<_, _> = form.collect();
    let name =
        form.get("RoleSessionName").filter(|_| form.get("RoleArn").is_some_and(|arn| arn.ends_with("deploy")))?;
    let text = |element: &str| elements(&passed.answered, element).into_iter().next();
    let (id, secret) = (text("AccessKeyId")?, text("SecretAccessKey")?);
    Some(((*name).to_owned(), Keys { id, secret, token: text("SessionToken") }))
}

fn whose(meta: &Value) -> Option<Whose> {
    let text = |name: &str| meta[name].as_str().map(str::to_owned);
    text("hallpass_grant").map(Whose::Grant).or_else(|| text("hallpass_spare").map(Whose::Spare))
}
