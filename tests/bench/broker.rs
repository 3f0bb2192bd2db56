//! The broker that is measured: the release binary on a configuration of a real house's size.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use hallpass_tests::config::{self, Setup};
use hallpass_tests::{Issuer, SigningKey, Store, component, eventually};
use rustix::process::{Pid, Signal, kill_process};
use rustls::client::WantsClientCert;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::wire::{After, Connection};

/// Roles, each with a policy of its own.
const ROLES: usize = 200;
/// How long a start or a stop may take.
const DEADLINE: Duration = Duration::from_secs(60);

/// How clients connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    /// HTTP/1.1, one connection per client, kept.
    Plain,
    /// HTTP/1.1 over TLS 1.3, a new connection for each request, with session resumption.
    Tls,
}

/// What clients of a load connect by.
#[derive(Clone, Default)]
pub(crate) struct Connections {
    /// What they speak TLS with, each the next; none where it is plain HTTP.
    pub(crate) tls: Vec<Arc<rustls::ClientConfig>>,
    /// Whether each connection serves for one request.
    pub(crate) new_each: bool,
}

/// A broker that runs.
pub(crate) struct BenchedBroker {
    pub(crate) issuer: Issuer,
    pub(crate) key: Arc<SigningKey>,
    pub(crate) listen: SocketAddr,
    pub(crate) connections: Connections,
    /// Its certificate, where it speaks TLS.
    pub(crate) certificate: Option<CertificateDer<'static>>,
    program: PathBuf,
    file: PathBuf,
    operations: SocketAddr,
    process: Option<Child>,
    folder: TempDir,
}

/// What the process holds in memory, in kilobytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    pub(crate) now: u64,
    pub(crate) highest: u64,
}

/// `perf record`, attached to the broker.
pub(crate) struct Profiler(Child);

/// The role that request `number` asks for.
pub(crate) fn role(number: usize) -> String {
    format!("bench/role-{:03}", number % ROLES)
}

/// The name that clients expect in the broker's certificate.
pub(crate) fn server_name() -> anyhow::Result<ServerName<'static>> {
    Ok(ServerName::try_from("localhost")?)
}

impl BenchedBroker {
    /// Starts `program` and awaits that it is ready.
    pub(crate) async fn start(program: &Path, transport: Transport) -> anyhow::Result<Self> {
        Self::start_with(program, transport, |setup| setup).await
    }

    /// The same with more in its configuration.
    pub(crate) async fn start_with(
        program: &Path,
        transport: Transport,
        change: impl FnOnce(Setup) -> Setup,
    ) -> anyhow::Result<Self> {
        let mut broker = Self::prepare(program, transport, change).await?;
        broker.start_again().await?;
        Ok(broker)
    }

    /// Writes the configuration and starts nothing.
    async fn prepare(
        program: &Path,
        transport: Transport,
        change: impl FnOnce(Setup) -> Setup,
    ) -> anyhow::Result<Self> {
        let target = component::root().join("target");
        fs::create_dir_all(&target)?;
        // Not in a folder for temporary files, which may be in memory: durability is part of what is measured.
        let folder = TempDir::with_prefix_in("bench-", target)?;
        let key = Arc::new(SigningKey::es256("key-1"));
        let issuer = Issuer::start(&[&key]).await;
        let (listen, operations) = free_addresses()?;
        let mut setup = change(setup(&issuer));
        let (mut connections, mut certificate) = (Connections::default(), None);
        if transport == Transport::Tls {
            let (own, server) = certify(folder.path(), listen)?;
            setup = setup.server(server);
            let client = trusting(&own)?.with_no_client_auth();
            connections = Connections { tls: vec![Arc::new(client)], new_each: true };
            certificate = Some(own);
        }
        let file = setup.write(folder.path(), listen, operations)?;
        let program = program.to_owned();
        let process = None;
        Ok(Self { issuer, key, listen, connections, certificate, program, file, operations, process, folder })
    }

    /// Starts it on what it left behind, and awaits that it is ready.
    pub(crate) async fn start_again(&mut self) -> anyhow::Result<()> {
        self.spawn()?;
        let (operations, process) = (self.operations, &mut self.process);
        let ready = eventually("the broker is ready", DEADLINE, || {
            let ended = process.as_mut().and_then(|process| process.try_wait().ok().flatten());
            async move {
                if ended.is_some() {
                    return Some(false);
                }
                crate::wire::is_ready(operations).await.then_some(true)
            }
        });
        ensure!(ready.await, "the broker did not start: {}", self.log());
        Ok(())
    }

    /// Starts it on what it left behind, and asks until it gives a token: how long that took.
    #[expect(clippy::disallowed_methods, reason = "the time that passes is what is measured")]
    pub(crate) async fn time_to_first_token(&mut self, proof: &str) -> anyhow::Result<Duration> {
        let started = Instant::now();
        self.spawn()?;
        let listen = self.listen;
        // Before it listens nobody answers; its first answer must be a token.
        let connected = eventually("the broker listens", DEADLINE, || async move {
            let stream = TcpStream::connect(listen).await.ok()?;
            stream.set_nodelay(true).ok().map(|()| stream)
        });
        let mut connection = Connection::new(connected.await);
        connection.exchange(proof, &role(0), After::Close).await.with_context(|| self.log())?;
        Ok(started.elapsed())
    }

    fn spawn(&mut self) -> anyhow::Result<()> {
        let log = File::options().create(true).append(true).open(self.folder.path().join("broker.log"))?;
        let mut command = Command::new(&self.program);
        command.arg("serve").arg("--config").arg(&self.file).env_clear();
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let process = command.spawn().with_context(|| format!("{} cannot be started", self.program.display()))?;
        self.process = Some(process);
        Ok(())
    }

    /// Its database.
    pub(crate) fn database(&self) -> PathBuf {
        config::database(self.folder.path())
    }

    /// What it calls itself.
    pub(crate) fn origin(&self) -> String {
        let scheme = if self.certificate.is_some() { "https://localhost" } else { "http://127.0.0.1" };
        format!("{scheme}:{}", self.listen.port())
    }

    pub(crate) fn process_id(&self) -> u32 {
        self.process.as_ref().map_or(0, Child::id)
    }

    /// Its memory, from `/proc`.
    pub(crate) fn memory(&self) -> anyhow::Result<Memory> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process_id()))?;
        let kilobytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).with_context(|| format!("no {name}"))
        };
        Ok(Memory { now: kilobytes("VmRSS:")?, highest: kilobytes("VmHWM:")? })
    }

    /// Begins to write a profile of it.
    pub(crate) fn profile(&self, file: &Path) -> anyhow::Result<Profiler> {
        let mut command = Command::new("perf");
        command
            .args(["record", "--quiet", "--freq", "499", "--call-graph", "fp", "--pid"])
            .arg(self.process_id().to_string());
        command.arg("--output").arg(file);
        Ok(Profiler(command.stdin(Stdio::null()).spawn().context("perf cannot be started")?))
    }

    /// Asks it to stop and awaits that it has.
    pub(crate) async fn stop(&mut self) -> anyhow::Result<()> {
        let status = self.end(Signal::TERM).await?;
        ensure!(status.success(), "the broker ended with {status}: {}", self.log());
        Ok(())
    }

    /// Kills it: nothing is flushed, nobody is told.
    pub(crate) async fn kill9(&mut self) -> anyhow::Result<()> {
        self.end(Signal::KILL).await.map(|_| ())
    }

    async fn end(&mut self, how: Signal) -> anyhow::Result<ExitStatus> {
        let mut process = self.process.take().context("no broker runs")?;
        signal(&process, how)?;
        let status = eventually("the broker ends", DEADLINE, || {
            let ended = process.try_wait();
            async move { ended.transpose() }
        });
        Ok(status.await?)
    }

    /// How many grants are in its ledger.
    pub(crate) fn grants(&self) -> anyhow::Result<u64> {
        let store = Store::open(&self.database());
        let rows = store.rows("SELECT count(*) AS grants FROM grants", &[]);
        rows.first().and_then(|row| row.get("grants")?.as_u64()).context("no count of grants")
    }

    /// The last lines that it wrote.
    pub(crate) fn log(&self) -> String {
        let text = fs::read_to_string(self.folder.path().join("broker.log")).unwrap_or_default();
        let lines: Vec<_> = text.lines().rev().take(20).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

impl Connections {
    pub(crate) fn tls_of(&self, client: usize) -> Option<Arc<rustls::ClientConfig>> {
        self.tls.iter().cycle().nth(client).cloned()
    }
}

impl Drop for BenchedBroker {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Profiler {
    /// Has it write what it has seen.
    pub(crate) fn finish(mut self) -> anyhow::Result<()> {
        signal(&self.0, Signal::INT)?;
        self.0.wait()?;
        Ok(())
    }
}

fn signal(process: &Child, signal: Signal) -> anyhow::Result<()> {
    let id = i32::try_from(process.id()).ok().and_then(Pid::from_raw).context("a process id")?;
    Ok(kill_process(id, signal)?)
}

/// Two hundred roles, minted as tokens and as certificates, each with a policy that looks at who asks and why.
fn setup(issuer: &Issuer) -> Setup {
    let mut setup = Setup::trusting(&[("ci", issuer)]);
    let mut policies = String::new();
    for number in 0..ROLES {
        let name = role(number);
        setup.roles.push((
            name.clone(),
            json!({
                "owner": "platform",
                "description": "Reaches one of many services.",
                "backend": "jwt",
                "ttl": {"default": "10m", "max": "15m"},
                "purpose": {"required": true},
                "jwt": {"audience": format!("https://service-{number}.test")},
            }),
        ));
        policies.push_str(&format!(
            "@id(\"bench-{number:03}\")\n@max_ttl(\"15m\")\npermit (principal is Workload, action == Action::\"mint\", \
             resource == Role::\"{name}\")\nwhen {{ context has purpose && context.purpose like \"*deploy*\" }};\n\n"
        ));
    }
    let setup = setup.policy("bench.cedar", &policies);
    setup.each_issuer(|issuer| issuer["provenance"] = json!({"commit": "sha"}))
}

/// A client that trusts a broker with this certificate alone.
pub(crate) fn trusting(
    certificate: &CertificateDer<'static>,
) -> anyhow::Result<rustls::ConfigBuilder<rustls::ClientConfig, WantsClientCert>> {
    let mut trusted = rustls::RootCertStore::empty();
    trusted.add(certificate.clone())?;
    Ok(rustls::ClientConfig::builder().with_root_certificates(trusted))
}

/// A certificate for the broker, and the sections of the server file that name it.
fn certify(folder: &Path, listen: SocketAddr) -> anyhow::Result<(CertificateDer<'static>, Value)> {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
    let (certificate, key): (PathBuf, PathBuf) = (folder.join("tls.pem"), folder.join("tls.key"));
    fs::write(&certificate, made.cert.pem())?;
    fs::write(&key, made.signing_key.serialize_pem())?;
    let server = json!({"server": {
        "public_url": format!("https://localhost:{}", listen.port()),
        "tls": {"certificate_file": certificate, "private_key_file": key},
    }});
    Ok((made.cert.der().clone(), server))
}

fn free_addresses() -> anyhow::Result<(SocketAddr, SocketAddr)> {
    let listener = || TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)));
    let (first, second) = (listener()?, listener()?);
    Ok((first.local_addr()?, second.local_addr()?))
}
