//! Strangers besiege the broker over TLS: more of them than it has places for connections, who say nothing or too little,
//! and come again when they are sent away. Nobody gets anything by it, what is to end ends, memory has a bound, and when
//! they are gone it serves again without a restart.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use hallpass_tests::config::{OPERATOR, Setup};
use hallpass_tests::{component, eventually, size};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, setrlimit};
use rustls::pki_types::ServerName;
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::caller::Caller;
use crate::house::House;
use crate::ledger::{self, hex, text};
use crate::process::{DEADLINE, lasting_address};
use crate::starvation::{kilobytes, open_with_heartbeat};
use crate::witness::{Errand, Wanted, Witness};

/// How long it may take until all places are taken, on a machine that builds at the same time.
const TAKEN_WITHIN: Duration = Duration::from_secs(240);
/// A stranger comes again no sooner than this.
const PAUSE: Duration = Duration::from_secs(5);
/// Between the lines of a head that never ends.
const DRIP: Duration = Duration::from_secs(1);
/// Addresses that strangers come from: one source alone has its share of the places for requests and no more.
const SOURCES: usize = 20;
/// What one connection may cost the broker, in kilobytes.
const KILOBYTES_EACH: u64 = 64;
/// Files and connections of the broker that are no stranger's.
const OTHER_DESCRIPTORS: usize = 128;

// EXP-15
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn besieged_by_idle_and_slow_tls_connections_it_opens_nothing_ends_what_is_to_end_and_recovers() {
    let (strangers, places) = (size(400, 10_000), size(256, 8_192));
    // Each stranger is a descriptor here, and in the broker, which inherits the limit.
    if !may_open(strangers + 1_000) {
        return;
    }
    let (mut house, operator) = open(places).await;
    let process = house.process.id();
    let witness = Witness::default();
    let held = witness.ask(&house.caller, Wanted::Token).await.expect("an answer");
    let condemned = witness.ask(&house.caller, Wanted::Token).await.expect("an answer");
    let silent = open_with_heartbeat(&house).await;
    let before = kilobytes(process, "VmRSS:");

    let siege = Siege::begin(&house, strangers);
    // All places for connections are taken, and all for ordinary requests: the holder's own connection was there before.
    let refused = eventually("every place is taken", TAKEN_WITHIN, async || {
        // Until then it is not silent.
        let beat = format!("/v1/grants/{silent}/heartbeat");
        house.caller.command(&beat, &house.caller.proof(), &json!({}), "beat").await.ok()?;
        let reply = Errand::new(&house.caller, Wanted::Token).run(&house.caller, None).await.ok()?;
        if reply.status == 200 {
            // Not yet full: what was opened is ended, and the count below stays what it is.
            house.caller.revoke(&house.caller.proof(), reply.grant()).await.ok()?;
            return None;
        }
        (descriptors(process) >= places).then_some(reply)
    })
    .await;
    assert_eq!((refused.status, &refused.body["reason"]), (503, &json!("overloaded")), "{}", refused.text);
    let opened = ledger::grants(&house.store()).len();

    let (lag, ended) = timed(witness.end(&house.caller, &held)).await;
    assert!(ended, "its holder cannot end a grant");
    let body = json!({"selector": {"proof_id": condemned.errand.proof.id}, "reason": "we are under attack"});
    let proof = operator.proof_of(OPERATOR);
    let (operators_lag, revoking) = timed(operator.command("/v1/revocations", &proof, &body, "siege")).await;
    revoking.expect("the operators' listener answers").assert_status(202);
    let nobody = operator.command("/v1/revocations", &operator.proof(), &body, "nobody").await.expect("an answer");
    assert!(matches!(nobody.status, 403 | 404), "somebody else may end everything: {}", nobody.text);
    for grant in [&condemned.grant, &silent].map(|grant| hex(grant)) {
        eventually("the grant ends", DEADLINE, async || {
            (text(&ledger::grants(&house.store())[&grant], "state") != "active").then_some(())
        })
        .await;
    }
    let grants = ledger::grants(&house.store());
    assert_eq!(text(&grants[&hex(&silent)], "cause"), "heartbeat_missed");
    assert_eq!(grants.len(), opened, "something was opened");
    let (open, highest) = (descriptors(process), kilobytes(process, "VmHWM:"));
    assert!(open <= places + OTHER_DESCRIPTORS, "{open} descriptors, and {places} places");
    let grown = highest.saturating_sub(before);
    tell(&format!(
        "{strangers} strangers at {places} places: {grown} kB more than the {before} kB before, {} kB each; \
         its holder ended a grant in {lag:?}, an operator a set in {operators_lag:?}",
        grown / places as u64
    ));
    assert!(grown <= KILOBYTES_EACH * places as u64, "{grown} kB for {places} connections");

    siege.end().await;
    eventually("it serves again", DEADLINE, async || {
        let errand = Errand::new(&house.caller, Wanted::Token);
        (errand.run(&house.caller, None).await.ok()?.status == 200).then_some(())
    })
    .await;
    assert!(house.process.runs() && house.process.id() == process, "it was restarted");
    ledger::assert_sound(&house.store());
}

/// A broker that serves callers over TLS with so many places for connections, and an operator at a listener of its own.
async fn open(places: usize) -> (House, Caller) {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).expect("a certificate");
    let folder = TempDir::with_prefix("hallpass-siege-").expect("a temporary folder");
    fs::write(folder.path().join("tls.pem"), made.cert.pem()).expect("written");
    fs::write(folder.path().join("tls.key"), made.signing_key.serialize_pem()).expect("written");
    let admin = lasting_address();
    let sections = json!({
        "server": {
            "public_url": "https://127.0.0.1",
            "tls": {"certificate_file": "tls.pem", "private_key_file": "tls.key"},
            "admin": {"listen": admin.to_string()},
        },
        // Fewer places for requests than strangers whose bodies do not come in.
        "limits": {"connections": places, "concurrency": places / 32},
    });
    let mut house = House::build_with(folder, |setup: Setup| setup.server(sections)).await;
    let operator = house.caller.clone().at_listener(admin);
    house.caller = house.caller.clone().over_tls(made.cert.pem().as_bytes());
    house.start().await;
    (house, operator)
}

/// Strangers at work.
struct Siege(JoinSet<()>);

impl Siege {
    fn begin(house: &House, strangers: usize) -> Self {
        let mut all = JoinSet::new();
        let tls = [house.caller.connector(&[b"h2"]), house.caller.connector(&[b"http/1.1"])];
        for number in 0..strangers {
            let (tls, broker) = (tls.clone(), house.caller.address());
            all.spawn(async move {
                let stranger = Stranger { kind: Kind::of(number), source: source(number), broker, tls };
                stranger.stay().await;
            });
        }
        Self(all)
    }

    async fn end(mut self) {
        self.0.abort_all();
        while let Some(ended) = self.0.join_next().await {
            assert!(ended.is_err_and(|error| error.is_cancelled()), "a stranger got what it must not have");
        }
    }
}

/// How a stranger wastes a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// HTTP/2 is negotiated, and nothing said.
    Mute,
    /// HTTP/2 begins (RFC 9113 §3.4), and no ping is answered.
    Idle2,
    /// HTTP/1.1, and nothing said.
    Idle1,
    /// A handshake that does not go on after its first bytes.
    Handshake,
    /// A head that comes in line by line and never ends.
    Head,
    /// A body that stops after its first byte.
    Body,
}

impl Kind {
    /// Most of them stay for long; fewer than the listener's turns for handshakes are in one.
    fn of(number: usize) -> Self {
        match number % 20 {
            0 => Self::Handshake,
            1 | 2 => Self::Head,
            3 | 4 => Self::Body,
            5 => Self::Idle1,
            6..=11 => Self::Idle2,
            _ => Self::Mute,
        }
    }
}

struct Stranger {
    kind: Kind,
    source: IpAddr,
    broker: SocketAddr,
    /// With HTTP/2, and with HTTP/1.1.
    tls: [TlsConnector; 2],
}

impl Stranger {
    /// Comes again and again.
    async fn stay(&self) {
        let mut again = interval(PAUSE);
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            again.tick().await;
            // It may be sent away at any point.
            let _ = self.come().await;
        }
    }

    async fn come(&self) -> std::io::Result<()> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(self.source, 0))?;
        let mut stream = socket.connect(self.broker).await?;
        let [http2, http1] = &self.tls;
        match self.kind {
            Kind::Handshake => {
                // A record of a handshake of 512 bytes (RFC 8446 §5.1), of which none comes.
                stream.write_all(&[22, 3, 1, 2, 0]).await?;
                until_sent_away(&mut stream).await
            }
            Kind::Mute => until_sent_away(&mut handshake(http2, stream).await?).await,
            Kind::Idle2 => {
                let mut stream = handshake(http2, stream).await?;
                stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await?;
                until_sent_away(&mut stream).await
            }
            Kind::Idle1 => until_sent_away(&mut handshake(http1, stream).await?).await,
            Kind::Head => {
                let (mut reading, mut writing) = tokio::io::split(handshake(http1, stream).await?);
                tokio::select! {
                    ended = until_sent_away(&mut reading) => ended,
                    ended = drip(&mut writing) => ended,
                }
            }
            Kind::Body => {
                let mut stream = handshake(http1, stream).await?;
                let head = b"POST /oauth2/token HTTP/1.1\r\nHost: 127.0.0.1\r\n\
                    Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 300\r\n\r\ng";
                stream.write_all(head).await?;
                until_sent_away(&mut stream).await
            }
        }
    }
}

async fn handshake(tls: &TlsConnector, stream: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
    tls.connect(ServerName::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST).into()), stream).await
}

/// The head itself is the trouble: it comes in slowly.
async fn drip(stream: &mut (impl AsyncWrite + Unpin)) -> std::io::Result<()> {
    let mut again = interval(DRIP);
    stream.write_all(b"POST /oauth2/token HTTP/1.1\r\nHost: 127.0.0.1\r\n").await?;
    loop {
        again.tick().await;
        stream.write_all(b"X-And: more\r\n").await?;
        stream.flush().await?;
    }
}

async fn until_sent_away(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<()> {
    let mut bytes = [0; 4096];
    loop {
        let read = stream.read(&mut bytes).await?;
        let said = String::from_utf8_lossy(&bytes[..read]);
        assert!(!said.starts_with("HTTP/1.1 2"), "a stranger was served: {said}");
        if read == 0 {
            return Ok(());
        }
    }
}

fn source(number: usize) -> IpAddr {
    IpAddr::from([127, 0, 0, u8::try_from(2 + number % SOURCES).expect("a few")])
}

/// Whether so many descriptors may be open, here and in what is started from here; raises the limit where that helps.
fn may_open(wanted: usize) -> bool {
    let (wanted, limit) = (wanted as u64, getrlimit(Resource::Nofile));
    let enough = |limit: Option<u64>| limit.is_none_or(|limit| limit >= wanted);
    if enough(limit.current) {
        return true;
    }
    let maximum = if enough(limit.maximum) { limit.maximum } else { Some(wanted) };
    let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum });
    if let Err(error) = raised {
        let most = limit.maximum.unwrap_or_default();
        component::skip(&format!("{wanted} open files are needed, and {most} are allowed ({error}); see ulimit -n"));
    }
    raised.is_ok()
}

fn descriptors(process: Pid) -> usize {
    fs::read_dir(format!("/proc/{}/fd", process.as_raw_nonzero())).expect("it runs").count()
}

#[expect(clippy::disallowed_methods, reason = "the time that passes is what is measured")]
async fn timed<T>(work: impl Future<Output = T>) -> (Duration, T) {
    let began = Instant::now();
    let done = work.await;
    (began.elapsed(), done)
}

#[expect(clippy::print_stderr, reason = "the figures are what the experiment is for")]
fn tell(figures: &str) {
    eprintln!("{figures}");
}
