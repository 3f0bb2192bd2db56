//! The broker that is measured: the release binary on a configuration of a real house's size.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use hallpass_tests::config::{self, Setup};
use hallpass_tests::{Issuer, SigningKey, Store, component, eventually};
use rustix::process::{Pid, Signal, kill_process};
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use tempfile::TempDir;

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

/// A broker that runs.
pub(crate) struct BenchedBroker {
    pub(crate) issuer: Issuer,
    pub(crate) key: SigningKey,
    pub(crate) listen: SocketAddr,
    /// Present where clients connect over TLS.
    pub(crate) tls: Option<Arc<rustls::ClientConfig>>,
    process: Child,
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
        let target = component::root().join("target");
        fs::create_dir_all(&target)?;
        // Not in a folder for temporary files, which may be in memory: durability is part of what is measured.
        let folder = TempDir::with_prefix_in("bench-", target)?;
        let key = SigningKey::es256("key-1");
        let issuer = Issuer::start(&[&key]).await;
        let (listen, operations) = free_addresses()?;
        let mut setup = setup(&issuer);
        let tls = match transport {
            Transport::Plain => None,
            Transport::Tls => {
                let (tls, server) = certify(folder.path(), listen)?;
                setup = setup.server(server);
                Some(Arc::new(tls))
            }
        };
        let file = setup.write(folder.path(), listen, operations)?;
        let log = File::create(folder.path().join("broker.log"))?;
        let mut command = Command::new(program);
        command.arg("serve").arg("--config").arg(file).env_clear();
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let process = command.spawn().with_context(|| format!("{} cannot be started", program.display()))?;
        let mut broker = Self { issuer, key, listen, tls, process, folder };
        broker.await_readiness(operations).await?;
        Ok(broker)
    }

    pub(crate) fn process_id(&self) -> u32 {
        self.process.id()
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
        signal(&self.process, Signal::TERM)?;
        let process = &mut self.process;
        let status = eventually("the broker ends", DEADLINE, || {
            let ended = process.try_wait();
            async move { ended.transpose() }
        });
        let status = status.await?;
        ensure!(status.success(), "the broker ended with {status}: {}", self.log());
        Ok(())
    }

    /// How many grants are in its ledger.
    pub(crate) fn grants(&self) -> anyhow::Result<u64> {
        let store = Store::open(&config::database(self.folder.path()));
        let rows = store.rows("SELECT count(*) AS grants FROM grants", &[]);
        rows.first().and_then(|row| row.get("grants")?.as_u64()).context("no count of grants")
    }

    /// The last lines that it wrote.
    pub(crate) fn log(&self) -> String {
        let text = fs::read_to_string(self.folder.path().join("broker.log")).unwrap_or_default();
        let lines: Vec<_> = text.lines().rev().take(20).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    async fn await_readiness(&mut self, operations: SocketAddr) -> anyhow::Result<()> {
        let process = &mut self.process;
        let ready = eventually("the broker is ready", DEADLINE, || {
            let ended = process.try_wait().ok().flatten();
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
}

impl Drop for BenchedBroker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
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
    setup.policy("bench.cedar", &policies)
}

/// A certificate for the broker, the sections of the server file that name it, and a client that trusts it alone.
fn certify(folder: &Path, listen: SocketAddr) -> anyhow::Result<(rustls::ClientConfig, Value)> {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
    let (certificate, key): (PathBuf, PathBuf) = (folder.join("tls.pem"), folder.join("tls.key"));
    fs::write(&certificate, made.cert.pem())?;
    fs::write(&key, made.signing_key.serialize_pem())?;
    let mut trusted = rustls::RootCertStore::empty();
    trusted.add(CertificateDer::from(made.cert.der().to_vec()))?;
    let client = rustls::ClientConfig::builder().with_root_certificates(trusted).with_no_client_auth();
    let server = json!({"server": {
        "public_url": format!("https://localhost:{}", listen.port()),
        "tls": {"certificate_file": certificate, "private_key_file": key},
    }});
    Ok((client, server))
}

fn free_addresses() -> anyhow::Result<(SocketAddr, SocketAddr)> {
    let listener = || TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)));
    let (first, second) = (listener()?, listener()?);
    Ok((first.local_addr()?, second.local_addr()?))
}
