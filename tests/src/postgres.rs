//! A real PostgreSQL server: on loopback, in a throwaway folder, with TLS and passwords as one would have them.
//!
//! Over TCP it asks for passwords (SCRAM), and for a certificate from whoever is a member of `by_certificate`; its
//! superuser comes in by the Unix socket of the folder alone. It logs every statement that it is given, so that tests
//! can look for what must not stand there.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio_postgres::{Client, Config, NoTls, Row};

use crate::port::lasting_address;
use crate::{component, eventually};

/// The superuser.
const ROOT: &str = "root";
/// The user that the server runs as where the test is root, which it refuses to be.
const UNPRIVILEGED: &str = "postgres";
/// How long a start or an end may take, on a machine that builds at the same time.
const DEADLINE: Duration = Duration::from_secs(60);

/// A server. It ends, and forgets everything, when this is dropped.
#[derive(Debug)]
pub struct Postgres {
    process: Option<Child>,
    programs: PathBuf,
    port: u16,
    home: TempDir,
}

impl Postgres {
    /// Makes one and starts it. None where it is not installed.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start() -> Option<Self> {
        let programs = component::postgres()?;
        let home = TempDir::with_prefix("hallpass-postgres-").expect("a temporary folder");
        let port = lasting_address().port();
        let mut server = Self { process: None, programs, port, home };
        server.initialise();
        server.restart().await;
        Some(server)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// The authority of its certificate, which names `localhost` and `127.0.0.1`; it listens at `127.0.0.2`, too.
    #[must_use]
    pub fn ca_file(&self) -> PathBuf {
        self.home.path().join("ca.pem")
    }

    /// The certificate and the key, each in a file, of a client whose common name is `user`.
    ///
    /// # Panics
    /// When they cannot be made.
    #[must_use]
    pub fn client_certificate(&self, user: &str) -> (PathBuf, PathBuf) {
        let authority = authority(&self.file("ca-key.pem"));
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(DnType::CommonName, user);
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let (certificate, key) = (self.file(&format!("{user}.pem")), self.file(&format!("{user}-key.pem")));
        sign(parameters, &authority, &certificate, &key);
        (certificate, key)
    }

    /// A connection of the superuser.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn root(&self, database: &str) -> Client {
        let mut config = Config::new();
        config.host_path(self.home.path()).port(self.port).user(ROOT).dbname(database);
        connect(&config).await.expect("the superuser comes in")
    }

    /// A connection as the user of a credential, over TCP.
    ///
    /// # Errors
    /// As the server refuses it.
    pub async fn connect(&self, user: &str, password: &str, database: &str) -> Result<Client, tokio_postgres::Error> {
        let mut config = Config::new();
        config.host("127.0.0.1").port(self.port).user(user).password(password).dbname(database);
        connect(config.connect_timeout(DEADLINE)).await
    }

    /// Runs statements as the superuser.
    ///
    /// # Panics
    /// When one of them is refused.
    pub async fn run(&self, database: &str, statements: &str) {
        self.root(database)
            .await
            .batch_execute(statements)
            .await
            .unwrap_or_else(|error| panic!("{statements}: {error:?}"));
    }

    /// The rows of a query of the superuser.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn rows(&self, query: &str) -> Vec<Row> {
        self.root("postgres").await.query(query, &[]).await.unwrap_or_else(|error| panic!("{query}: {error:?}"))
    }

    /// The roles whose names are `LIKE pattern`.
    ///
    /// # Panics
    /// When the server does not answer.
    pub async fn roles(&self, pattern: &str) -> Vec<String> {
        let client = self.root("postgres").await;
        let rows =
            client.query("SELECT rolname::text FROM pg_roles WHERE rolname LIKE $1 ORDER BY 1", &[&pattern]).await;
        rows.expect("the roles").iter().map(|row| row.get(0)).collect()
    }

    /// How many connections a user has.
    ///
    /// # Panics
    /// When the server does not answer.
    pub async fn sessions(&self, user: &str) -> i64 {
        let client = self.root("postgres").await;
        let row = client.query_one("SELECT count(*) FROM pg_stat_activity WHERE usename = $1", &[&user]).await;
        row.expect("the sessions").get(0)
    }

    /// What it wrote into its log, with every statement.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.file("log")).unwrap_or_default()).into_owned()
    }

    /// Stops it in order: connections are ended, what was committed is kept.
    pub async fn stop(&mut self) {
        self.end(Signal::INT).await;
    }

    /// Has it die at once, as `pg_ctl stop -m immediate` does: it recovers at its next start.
    pub async fn crash(&mut self) {
        self.end(Signal::QUIT).await;
    }

    /// Starts it on what it has, and awaits that it answers.
    ///
    /// # Panics
    /// When it does not.
    pub async fn restart(&mut self) {
        let log = fs::File::options().create(true).append(true).open(self.file("log")).expect("a log file");
        let settings = [
            ("listen_addresses", "127.0.0.1,127.0.0.2".to_owned()),
            ("unix_socket_directories", self.home.path().display().to_string()),
            ("fsync", "off".to_owned()),
            ("max_connections", "60".to_owned()),
            ("ssl", "on".to_owned()),
            ("ssl_cert_file", self.file("server.pem").display().to_string()),
            ("ssl_key_file", self.file("server-key.pem").display().to_string()),
            ("ssl_ca_file", self.ca_file().display().to_string()),
            ("log_statement", "all".to_owned()),
        ];
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.file("data")).arg("-p").arg(self.port.to_string());
        for (name, value) in settings {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        let process = command.stdout(log.try_clone().expect("a second handle")).stderr(log).spawn();
        self.process = Some(process.expect("PostgreSQL starts"));
        let mut config = Config::new();
        config.host_path(self.home.path()).port(self.port).user(ROOT).dbname("postgres");
        eventually("PostgreSQL answers", DEADLINE, async || {
            let client = connect(&config).await.ok()?;
            client.simple_query("SELECT 1").await.ok().map(drop)
        })
        .await;
    }

    /// Stops every process of it where it is: connections are accepted by the system, and nobody answers.
    ///
    /// # Panics
    /// When it does not run.
    pub fn freeze(&self) {
        // The first one first: it would start others.
        let first = self.postmaster();
        let _ = kill_process(first, Signal::STOP);
        for process in children(first) {
            let _ = kill_process(process, Signal::STOP);
        }
    }

    /// Lets them go on.
    ///
    /// # Panics
    /// When it does not run.
    pub fn thaw(&self) {
        let first = self.postmaster();
        for process in children(first).into_iter().chain([first]) {
            let _ = kill_process(process, Signal::CONT);
        }
    }

    fn initialise(&self) {
        if rustix::process::geteuid().is_root() {
            let given = Command::new("chown").arg(UNPRIVILEGED).arg(self.home.path()).status();
            assert!(given.is_ok_and(|status| status.success()), "there is no user {UNPRIVILEGED}");
        }
        let authority = authority(&self.file("ca-key.pem"));
        fs::write(self.ca_file(), authority.pem()).expect("a file");
        let parameters = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]);
        let mut parameters = parameters.expect("two names");
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let (certificate, key) = (self.file("server.pem"), self.file("server-key.pem"));
        sign(parameters, &authority, &certificate, &key);
        self.hand_over(&[&certificate, &key]);

        let mut command = self.command("initdb");
        command.arg("-D").arg(self.file("data")).args(["-U", ROOT, "-A", "trust", "-E", "UTF8", "--no-sync"]);
        let made = command.stdout(Stdio::null()).output().expect("initdb starts");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let access = format!(
            "local all {ROOT} trust\n\
             hostssl all +by_certificate 127.0.0.1/32 cert\n\
             host all all 127.0.0.1/32 scram-sha-256\n"
        );
        fs::write(self.file("data/pg_hba.conf"), access).expect("the rules of access");
    }

    /// Makes files the server's, as it wants its key.
    fn hand_over(&self, files: &[&Path]) {
        if rustix::process::geteuid().is_root() {
            let given = Command::new("chown").arg(UNPRIVILEGED).args(files).status();
            assert!(given.is_ok_and(|status| status.success()), "the files cannot be handed over");
        }
    }

    /// One of its programs, as a user that it accepts, which dies with the test.
    fn command(&self, program: &str) -> Command {
        let program = self.programs.join(program);
        let mut command = if rustix::process::geteuid().is_root() {
            let mut command = Command::new("setpriv");
            command.arg(format!("--reuid={UNPRIVILEGED}")).arg(format!("--regid={UNPRIVILEGED}"));
            command.args(["--init-groups", "--pdeathsig=QUIT", "--"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", self.home.path()).env("LC_ALL", "C");
        command.current_dir(self.home.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    async fn end(&mut self, signal: Signal) {
        let Some(mut process) = self.process.take() else { return };
        let _ = kill_process(pid(&process), signal);
        eventually("PostgreSQL ends", DEADLINE, || {
            let ended = process.try_wait().expect("our own process can be awaited");
            async move { ended }
        })
        .await;
    }

    fn postmaster(&self) -> Pid {
        pid(self.process.as_ref().expect("a server that runs"))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            // What is frozen takes no other signal.
            let _ = kill_process(pid(&process), Signal::CONT);
            let _ = kill_process(pid(&process), Signal::QUIT);
            let _ = process.wait();
        }
    }
}

/// The processes that the postmaster started.
fn children(first: Pid) -> Vec<Pid> {
    let list = format!("/proc/{first}/task/{first}/children", first = first.as_raw_nonzero());
    let list = fs::read_to_string(list).unwrap_or_default();
    list.split_whitespace().filter_map(|id| Pid::from_raw(id.parse().ok()?)).collect()
}

async fn connect(config: &Config) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

fn pid(process: &Child) -> Pid {
    i32::try_from(process.id()).ok().and_then(Pid::from_raw).expect("a process id")
}

/// The authority whose key is in `file`; it is made at the first time.
fn authority(file: &Path) -> CertifiedIssuer<'static, KeyPair> {
    if !file.exists() {
        fs::write(file, KeyPair::generate().expect("a key").serialize_pem()).expect("a file");
    }
    let key = KeyPair::from_pem(&fs::read_to_string(file).expect("the file")).expect("a key");
    let mut parameters = CertificateParams::default();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.distinguished_name.push(DnType::CommonName, "the authority of a test");
    CertifiedIssuer::self_signed(parameters, key).expect("a certificate")
}

fn sign(parameters: CertificateParams, by: &CertifiedIssuer<'static, KeyPair>, certificate: &Path, key: &Path) {
    let own = KeyPair::generate().expect("a key");
    let signed = parameters.signed_by(&own, by).expect("a certificate");
    fs::write(certificate, signed.pem()).expect("a file");
    fs::write(key, own.serialize_pem()).expect("a file");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(key, mode).expect("its mode");
}

#[tokio::test]
async fn a_server_keeps_what_was_committed_over_a_crash_and_answers_nobody_while_it_is_frozen() {
    let Some(mut server) = Postgres::start().await else { return };
    server.run("postgres", "CREATE ROLE app LOGIN PASSWORD 'p'; CREATE TABLE kept (n int)").await;
    server.connect("app", "wrong", "postgres").await.expect_err("a wrong password");
    let client = server.connect("app", "p", "postgres").await.expect("the right password");
    assert_eq!(server.sessions("app").await, 1);
    server.crash().await;
    client.simple_query("SELECT 1").await.expect_err("the connection is gone");
    server.restart().await;
    assert_eq!(server.rows("SELECT * FROM kept").await.len(), 0);
    let client = server.connect("app", "p", "postgres").await.expect("it is back");
    server.freeze();
    let asked = tokio::time::timeout(Duration::from_millis(300), client.simple_query("SELECT 1")).await;
    server.thaw();
    assert!(asked.is_err(), "a frozen server answers nobody");
    client.simple_query("SELECT 1").await.expect("it goes on");
    assert!(server.log().contains("CREATE TABLE kept"));
}
