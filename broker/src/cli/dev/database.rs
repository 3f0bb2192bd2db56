//! A PostgreSQL server of `dev`'s own, for users that live as long as their grants: on loopback, in the temporary folder.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hallpass_core::entropy::Entropy;
use hallpass_core::port::Files;
use hallpass_core::secret::Secret;
use hallpass_sdk::wire::{CreateGrant, Credential, Duration};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio_postgres::{Client, Config, NoTls};

use super::story::{PATIENCE, Stage, give_back, say, show_grant, tell, until};

/// The role of this part of the story.
const ROLE: &str = "payments/orders/migrate";
const PURPOSE: &str = "add a column to the orders";
const DATABASE: &str = "orders";

const BACKEND: &str = r#"
[[backend]]
name = "orders-db"
kind = "postgres"
host = "127.0.0.1"
port = {port}
username = "hallpass"
password = { file = "../orders-db" }
tls = "disable"                       # it is on this machine
"#;
const ROLE_FILE: &str = r#"owner = "payments"
description = "Changes the schema of the orders' database"
backend = "orders-db"
ttl = { default = "10m", max = "1h" }
stage = "apply"

[postgres]
roles = ["orders_owner"]
database = "orders"
"#;
const POLICY: &str = r#"
@id("payments-migrate-orders")
@description("The payments repository changes its database from its protected main branch")
permit (principal in Issuer::"ci", action in [Action::"mint", Action::"preview"], resource == Role::"payments/orders/migrate")
when {
  context.provenance has repository_id && context.provenance.repository_id == "222" &&
  context.provenance has ref && context.provenance.ref == "refs/heads/main" &&
  context.provenance has ref_protected && context.provenance.ref_protected
};
"#;

/// The server. It ends when this is dropped.
pub(super) struct Database {
    process: Child,
    home: PathBuf,
    port: u16,
}

impl Database {
    /// Starts one below `folder`, with a broker's user that may make roles there and nothing more.
    pub(super) async fn start(folder: &Path, entropy: &dyn Entropy) -> anyhow::Result<Self> {
        let programs = programs()?;
        let home = folder.join("postgres");
        fs::create_dir(&home)?;
        let is_root = rustix::process::geteuid().is_root();
        if is_root {
            // PostgreSQL refuses to run as root.
            let reach = std::os::unix::fs::PermissionsExt::from_mode(0o711);
            fs::set_permissions(folder, reach)?;
            let given = Command::new("chown").arg("postgres").arg(&home).status().await;
            ensure!(
                given.is_ok_and(|status| status.success()),
                "as root, PostgreSQL needs a user `postgres` to run as"
            );
        }
        let command = |program: &str| {
            let mut command = if is_root { Command::new("setpriv") } else { Command::new(programs.join(program)) };
            if is_root {
                command.args(["--reuid=postgres", "--regid=postgres", "--init-groups", "--"]);
                command.arg(programs.join(program));
            }
            command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", &home).env("LC_ALL", "C").current_dir(&home);
            command.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
            command
        };
        let data = home.join("data");
        let mut made = command("initdb");
        made.arg("-D").arg(&data).args(["-U", "root", "-A", "trust", "-E", "UTF8", "--no-sync"]);
        let made = made.output().await.context("initdb cannot be started")?;
        ensure!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr).trim());
        fs::write(data.join("pg_hba.conf"), "local all root trust\nhost all all 127.0.0.1/32 scram-sha-256\n")?;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let process = command("postgres")
            .arg("-D")
            .arg(&data)
            .args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"])
            .args(["-c", &format!("unix_socket_directories={}", home.display())])
            .stderr(fs::File::create(folder.join("postgres.log"))?)
            // Ctrl-C at the terminal is for the broker, which drops its users before the server ends.
            .process_group(0)
            .spawn()
            .context("postgres cannot be started")?;
        let server = Self { process, home, port };
        server.prepare(folder, entropy).await?;
        Ok(server)
    }

    async fn prepare(&self, folder: &Path, entropy: &dyn Entropy) -> anyhow::Result<()> {
        let root = self.until_it_answers().await?;
        let mut random = [0_u8; 24];
        entropy.fill(&mut random)?;
        let password = Secret::new(URL_SAFE_NO_PAD.encode(random));
        let verifier = postgres_protocol::password::scram_sha_256(password.expose().as_bytes());
        super::write_secret(&folder.join("orders-db"), password.expose())?;
        root.batch_execute(&format!(
            "CREATE ROLE hallpass LOGIN CREATEROLE PASSWORD '{verifier}'; CREATE ROLE orders_owner NOLOGIN; \
             GRANT orders_owner TO hallpass WITH ADMIN OPTION"
        ))
        .await?;
        root.batch_execute("CREATE DATABASE orders OWNER orders_owner").await?;
        let orders = self.root(DATABASE).await?;
        orders.batch_execute("SET ROLE orders_owner; CREATE TABLE orders (id bigint PRIMARY KEY)").await?;
        Ok(())
    }

    /// Adds a backend, a role and a policy to the bundle.
    pub(super) fn add_to(&self, files: &mut Files) {
        let backend = BACKEND.replace("{port}", &self.port.to_string());
        files.entry("backends.toml".to_owned()).or_default().push_str(&backend);
        files.insert(format!("roles/{ROLE}.toml"), ROLE_FILE.to_owned());
        files.insert("policies/orders.cedar".to_owned(), POLICY.to_owned());
    }

    /// Tells the part of the story that happens at it.
    ///
    /// # Errors
    /// The first step that did not go as told.
    pub(super) async fn tell(&self, stage: &Stage) -> anyhow::Result<()> {
        say("A real database: PostgreSQL runs on loopback. Hallpass may make roles there; it is no superuser.");
        say("The job shows a proof again and asks for the role of a migration.");
        tell(&format!("role     {ROLE}"));
        tell(&format!("purpose  {PURPOSE:?}"));
        let job = stage.client_of("ci", "deploy-job")?;
        let wanted = CreateGrant::new(ROLE, PURPOSE).ttl(Duration::from_secs(600));
        let answer = job.create_grant(&wanted).await.context("the exchange")?;
        let Credential::Database { username, password, .. } = &answer.credential else {
            bail!("the role {ROLE} should give a user of a database");
        };
        show_grant(&answer.grant, "the broker ends its sessions and drops it");

        say("The intent was written down before the user was made. This is what the server has of it:");
        let root = self.root("postgres").await?;
        let query = "SELECT rolvaliduntil::text, rolconnlimit, shobj_description(oid, 'pg_authid') FROM pg_roles WHERE \
                     rolname = $1";
        let row = root.query_one(query, &[&username]).await.context("the user is in pg_roles")?;
        tell(&format!("user      {username}"));
        tell(&format!("until     {}, for new logins", row.get::<_, String>(0)));
        tell(&format!("limit     {} connections", row.get::<_, i32>(1)));
        tell(&format!("comment   {}", row.get::<_, String>(2)));

        say("The job connects as that user, and does its work.");
        let session = self.connect(username, password.expose()).await.context("the job connects")?;
        let change = "ALTER TABLE orders ADD COLUMN note text; CREATE TABLE archive (id bigint)";
        session.batch_execute(&format!("SET ROLE orders_owner; {change}")).await.context("the migration")?;
        session.batch_execute("RESET ROLE; CREATE TABLE scratch (n int)").await.context("a table of its own")?;
        tell(change);

        say("The job is done, forgets its open connection, and gives its grant back.");
        give_back(&job, &answer.grant.id, "the migration is done").await?;
        let asked = session.simple_query("SELECT 1").await;
        tell(&format!("its open connection   →  {}", if asked.is_err() { "ended" } else { "still there" }));
        ensure!(asked.is_err(), "the session should be ended");
        let again = self.connect(username, password.expose()).await;
        tell(&format!("logging in again      →  {}", if again.is_err() { "refused" } else { "let in" }));
        ensure!(again.is_err(), "logging in should be refused");
        let left = root.query("SELECT 1 FROM pg_roles WHERE rolname = $1", &[&username]).await?;
        tell(&format!("in pg_roles           →  {}", if left.is_empty() { "not there" } else { "still there" }));
        ensure!(left.is_empty(), "the user should be gone");
        tell("`revoked`, and not `expired`: the server itself said that the user and its sessions are gone.");
        tell(
            "The table that it left behind belongs to orders_owner now. Had Hallpass died meanwhile, nobody could have",
        );
        tell("logged in after the time above; an open session would have lasted until it was idle for ten minutes.");
        Ok(())
    }

    /// Where it can be looked at.
    pub(super) fn print(&self) {
        println!(
            "    # The database, as its administrator sees it; users come and go with their grants (role {ROLE})\n    \
             psql -h {} -p {} -U root {DATABASE} -c '\\du+'\n",
            self.home.display(),
            self.port
        );
    }

    /// Ends it.
    pub(super) async fn stop(mut self) {
        if let Some(process) = self.process.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)) {
            let _ = kill_process(process, Signal::INT);
            let _ = tokio::time::timeout(PATIENCE, self.process.wait()).await;
        }
    }

    async fn until_it_answers(&self) -> anyhow::Result<Client> {
        until(async || self.root("postgres").await).await.context("PostgreSQL does not answer")
    }

    async fn root(&self, database: &str) -> anyhow::Result<Client> {
        let mut config = Config::new();
        open(config.host_path(&self.home).port(self.port).user("root").dbname(database)).await
    }

    async fn connect(&self, username: &str, password: &str) -> anyhow::Result<Client> {
        let mut config = Config::new();
        config.host("127.0.0.1").port(self.port).user(username).password(password);
        open(config.dbname(DATABASE)).await
    }
}

async fn open(config: &Config) -> anyhow::Result<Client> {
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// The folder of `initdb` and `postgres`: on the `PATH`, where `tests/run` installs it, or where Debian does.
fn programs() -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    folders.push(PathBuf::from("target/components/postgres"));
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().filter_map(Result::ok);
    let mut versions: Vec<PathBuf> = versions.map(|version| version.path().join("bin")).collect();
    versions.sort();
    folders.extend(versions.into_iter().rev());
    let found = folders.into_iter().find(|folder| folder.join("initdb").exists() && folder.join("postgres").exists());
    let missing = "PostgreSQL is not installed: `initdb` and `postgres` are not on the PATH; install it (Debian: \
                   apt-get install postgresql), or leave out --with postgres";
    found.context(missing)?.canonicalize().context("the folder of PostgreSQL's programs")
}
