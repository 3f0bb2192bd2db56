use std::io;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Extension;
use axum::routing::get;
use hyper::client::conn::http2;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, HandshakeKind, RootCertStore, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use hallpass_core::identity::ClientCertificate;

use super::*;

/// Longer than anything here takes; only a failing test waits for it.
const PATIENCE: Duration = Duration::from_secs(10);
const GET: &str = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

struct House {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    served: JoinHandle<Drained>,
    /// How many requests are at work, and what lets them finish.
    at_work: Arc<AtomicUsize>,
    finish: Arc<Notify>,
}

impl House {
    async fn open(tls: Option<Arc<ServerConfig>>, change: impl FnOnce(&mut ListenerLimits)) -> Self {
        let mut limits = ListenerLimits::default();
        change(&mut limits);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let (at_work, finish) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let router = Router::new().route("/", get(whence)).route("/who", get(who)).route("/held", {
            let (at_work, finish) = (Arc::clone(&at_work), Arc::clone(&finish));
            get(move || async move {
                let _work = Work::begin(at_work);
                finish.notified().await;
                "held"
            })
        });
        let served = tokio::spawn(serve(listener, tls, router, limits, async {
            let _ = stopped.await;
        }));
        Self { address, stop: Some(stop), served, at_work, finish }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    async fn holds(&self, requests: usize) {
        let held = async {
            while self.at_work.load(Ordering::SeqCst) != requests {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, held).await.expect("so many requests are at work");
    }
}

/// A request at work, until it is answered or dropped.
struct Work(Arc<AtomicUsize>);

impl Work {
    fn begin(at_work: Arc<AtomicUsize>) -> Self {
        at_work.fetch_add(1, Ordering::SeqCst);
        Self(at_work)
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn whence(Extension(connection): Extension<Connection>) -> String {
    format!("{} {}", connection.peer.ip(), connection.server_name.as_deref().unwrap_or("-"))
}

/// The thumbprint of the certificate that the client showed.
async fn who(Extension(connection): Extension<Connection>) -> String {
    format!("{}.", connection.certificate.map_or("nobody".to_owned(), |certificate| certificate.thumbprint()))
}

/// What comes until the peer closes. A reset is a close too.
async fn rest(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes)).await;
    let _: io::Result<usize> = read.expect("the listener closes the connection");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// One answer with a body that ends in `end`.
async fn answer(stream: &mut (impl AsyncRead + Unpin), end: &str) -> String {
    let mut text = String::new();
    while !text.ends_with(end) {
        let mut bytes = [0; 1024];
        let read = tokio::time::timeout(PATIENCE, stream.read(&mut bytes)).await.expect("an answer").unwrap();
        assert!(read > 0, "closed after {text:?}");
        text.push_str(&String::from_utf8_lossy(&bytes[..read]));
    }
    text
}

struct Certificate {
    der: CertificateDer<'static>,
    config: Arc<ServerConfig>,
    _folder: tempfile::TempDir,
}

fn certificate() -> Certificate {
    certificate_asking(ClientCertificates::Asked)
}

fn certificate_asking(clients: ClientCertificates) -> Certificate {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (chain, key) = (folder.path().join("chain.pem"), folder.path().join("key.pem"));
    std::fs::write(&chain, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    Certificate {
        der: made.cert.der().clone(),
        config: Certificates::load(&chain, &key).unwrap().server_config(clients).unwrap(),
        _folder: folder,
    }
}

fn client(certificate: &Certificate, version: &'static SupportedProtocolVersion, alpn: &[&str]) -> TlsConnector {
    client_with(certificate, version, alpn, None)
}

/// A client that shows this chain, and signs with this key.
fn client_with(
    certificate: &Certificate,
    version: &'static SupportedProtocolVersion,
    alpn: &[&str],
    own: Option<(Vec<CertificateDer<'static>>, &rcgen::KeyPair)>,
) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.der.clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match own {
        None => config.with_no_client_auth(),
        Some((chain, key)) => {
            // Whether the key is the certificate's is not looked at: that is the server's to find out.
            let key = rustls::crypto::ring::sign::any_supported_type(&key.serialize_der().try_into().unwrap()).unwrap();
            config.with_client_cert_resolver(Arc::new(Shows(Arc::new(rustls::sign::CertifiedKey::new(chain, key)))))
        }
    };
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    TlsConnector::from(Arc::new(config))
}

/// Shows one certificate, whatever is asked for.
#[derive(Debug)]
struct Shows(Arc<rustls::sign::CertifiedKey>);

impl rustls::client::ResolvesClientCert for Shows {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<rustls::sign::CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// An authority of this name, with a key of its own.
fn authority_named(name: &str) -> CertificateDer<'static> {
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::OrganizationName, name);
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().clone()
}

/// Who the listener says is there, if it says anything.
async fn seen(house: &House, connector: &TlsConnector) -> Option<(HandshakeKind, String)> {
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = connector.connect(name, house.connect().await).await.ok()?;
    stream.write_all(GET.replace("/ ", "/who ").as_bytes()).await.ok()?;
    let mut bytes = vec![0; 4096];
    let read = tokio::time::timeout(PATIENCE, stream.read(&mut bytes)).await.expect("an answer").ok()?;
    let text = String::from_utf8_lossy(&bytes[..read]).into_owned();
    let body = text.split("\r\n\r\n").nth(1)?.trim_end_matches('.').to_owned();
    Some((stream.get_ref().1.handshake_kind()?, body))
}

async fn handshake(house: &House, connector: &TlsConnector) -> TlsStream<TcpStream> {
    let name = ServerName::try_from("localhost").unwrap();
    connector.connect(name, house.connect().await).await.unwrap()
}

#[tokio::test]
async fn a_request_knows_where_it_came_from() {
    let house = House::open(None, |_| ()).await;
    let mut stream = house.connect().await;
    stream.write_all(GET.as_bytes()).await.unwrap();
    assert!(answer(&mut stream, "127.0.0.1 -").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn sessions_resume_and_requests_know_the_name_that_was_asked_for() {
    let certificate = certificate();
    let house = House::open(Some(Arc::clone(&certificate.config)), |_| ()).await;
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let connector = client(&certificate, version, &[]);
        for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let mut stream = handshake(&house, &connector).await;
            assert_eq!(stream.get_ref().1.handshake_kind(), Some(kind), "{version:?}");
            stream.write_all(GET.as_bytes()).await.unwrap();
            answer(&mut stream, "127.0.0.1 localhost").await;
        }
    }
}

#[tokio::test]
async fn whoever_has_the_key_of_a_sound_certificate_is_known_by_it_in_resumed_sessions_too() {
    let certificate = certificate();
    let house = House::open(Some(Arc::clone(&certificate.config)), |_| ()).await;
    let own = rcgen::generate_simple_self_signed(vec!["somebody".to_owned()]).unwrap();
    let own_chain = vec![own.cert.der().clone()];
    let thumbprint = ClientCertificate::new(vec![own.cert.der().to_vec()]).unwrap().thumbprint();
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let connector = client_with(&certificate, version, &[], Some((own_chain.clone(), &own.signing_key)));
        for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
            assert_eq!(seen(&house, &connector).await, Some((kind, thumbprint.clone())), "{version:?}");
        }
        let connector = client(&certificate, version, &[]);
        assert_eq!(seen(&house, &connector).await.unwrap().1, "nobody", "{version:?}");
    }
}

#[tokio::test]
async fn another_key_than_the_certificates_and_what_is_no_sound_chain_end_the_handshake() {
    let certificate = certificate();
    let house = House::open(Some(Arc::clone(&certificate.config)), |_| ()).await;
    let own = rcgen::generate_simple_self_signed(vec!["somebody".to_owned()]).unwrap();
    let stranger = rcgen::KeyPair::generate().unwrap();
    let own_der = own.cert.der().clone();
    let chain_of = |length: usize| {
        let above = (1..length).map(|n| authority_named(&n.to_string()));
        std::iter::once(own_der.clone()).chain(above).collect::<Vec<_>>()
    };
    let of_one_name = || vec![own_der.clone(), authority_named("a"), authority_named("a")];
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        for (what, chain, key) in [
            ("another key", chain_of(1), &stranger),
            ("no certificate", vec![CertificateDer::from(vec![0x30, 0])], &own.signing_key),
            ("cut short", vec![CertificateDer::from(own_der[..own_der.len() - 1].to_vec())], &own.signing_key),
            ("a long chain", chain_of(5), &own.signing_key),
            ("a very long chain", chain_of(50), &own.signing_key),
            ("a chain that has many orders", of_one_name(), &own.signing_key),
        ] {
            let connector = client_with(&certificate, version, &[], Some((chain, key)));
            assert_eq!(seen(&house, &connector).await, None, "{what} {version:?}");
        }
        let connector = client_with(&certificate, version, &[], Some((chain_of(4), &own.signing_key)));
        assert!(seen(&house, &connector).await.is_some(), "the longest chain {version:?}");
    }
}

#[tokio::test]
async fn where_nobody_is_asked_for_a_certificate_none_is_taken() {
    let certificate = certificate_asking(ClientCertificates::NotAsked);
    let house = House::open(Some(Arc::clone(&certificate.config)), |_| ()).await;
    let own = rcgen::generate_simple_self_signed(vec!["somebody".to_owned()]).unwrap();
    let own = Some((vec![own.cert.der().clone()], &own.signing_key));
    let connector = client_with(&certificate, &rustls::version::TLS13, &[], own);
    assert_eq!(seen(&house, &connector).await.unwrap().1, "nobody");
}

#[tokio::test]
async fn http_2_is_spoken_where_it_was_negotiated() {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    const EMPTY_SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let certificate = certificate();
    let house = House::open(Some(Arc::clone(&certificate.config)), |_| ()).await;
    let connector = client(&certificate, &rustls::version::TLS13, &["h2", "http/1.1"]);
    let mut stream = handshake(&house, &connector).await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
    stream.write_all(&[PREFACE, &EMPTY_SETTINGS].concat()).await.unwrap();
    let mut head = [0; 9];
    tokio::time::timeout(PATIENCE, stream.read_exact(&mut head)).await.unwrap().unwrap();
    assert_eq!(head[3], 4, "a SETTINGS frame answers the preface (RFC 9113 §3.4)");
}

#[tokio::test]
async fn whoever_sends_no_head_or_half_of_one_is_sent_away() {
    let house = House::open(None, |limits| limits.header_read_timeout = Duration::from_millis(50)).await;
    for sent in ["", "P", "GET / HTTP/1.1\r\nHost: loc"] {
        let mut stream = house.connect().await;
        stream.write_all(sent.as_bytes()).await.unwrap();
        assert!(!rest(&mut stream).await.contains("200"), "{sent:?}");
    }
}

#[tokio::test]
async fn an_idle_connection_is_not_kept_for_ever() {
    let house = House::open(None, |limits| limits.header_read_timeout = Duration::from_millis(50)).await;
    let mut stream = house.connect().await;
    stream.write_all(GET.as_bytes()).await.unwrap();
    answer(&mut stream, "127.0.0.1 -").await;
    rest(&mut stream).await;
}

/// A connection that speaks HTTP/2 and answers pings, which is its task.
struct Http2 {
    requests: http2::SendRequest<Body>,
    ended: JoinHandle<hyper::Result<()>>,
}

impl Http2 {
    async fn open(house: &House, certificate: &Certificate) -> Self {
        let stream = handshake(house, &client(certificate, &rustls::version::TLS13, &["h2"])).await;
        let (requests, served) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        Self { requests, ended: tokio::spawn(served) }
    }

    fn get(&mut self, path: &str) -> impl Future<Output = String> + use<> {
        let request = Request::get(format!("https://localhost{path}")).body(Body::empty()).unwrap();
        let answered = self.requests.send_request(request);
        async move {
            let body = Body::new(answered.await.unwrap().into_body());
            let bytes = axum::body::to_bytes(body, 1_000).await.unwrap();
            String::from_utf8_lossy(&bytes).into_owned()
        }
    }

    async fn closed(self) {
        tokio::time::timeout(PATIENCE, self.ended).await.expect("the listener closes it").unwrap().unwrap();
    }
}

#[tokio::test]
async fn an_http_2_connection_without_requests_is_not_kept_for_ever_though_it_answers_pings() {
    let certificate = certificate();
    let house = House::open(Some(Arc::clone(&certificate.config)), |limits| {
        (limits.idle_timeout, limits.keep_alive) = (Duration::from_millis(300), Duration::from_millis(50));
        limits.max_connections = 2;
    })
    .await;
    let mut busy = Http2::open(&house, &certificate).await;
    let held = tokio::spawn(busy.get("/held"));
    house.holds(1).await;
    for asks in [false, true] {
        let mut idle = Http2::open(&house, &certificate).await;
        if asks {
            assert_eq!(idle.get("/").await, "127.0.0.1 localhost");
        }
        idle.closed().await;
    }
    assert!(!busy.ended.is_finished(), "whose request is at work is not idle");
    house.finish.notify_one();
    assert_eq!(held.await.unwrap(), "held");
    busy.closed().await;
}

#[tokio::test]
async fn whoever_negotiates_http_2_and_sends_no_preface_or_half_of_one_is_sent_away() {
    let certificate = certificate();
    let house = House::open(Some(Arc::clone(&certificate.config)), |limits| {
        (limits.idle_timeout, limits.header_read_timeout) = (Duration::from_millis(50), Duration::from_millis(50));
    })
    .await;
    for sent in ["", "PRI * HTTP/2.0\r\n"] {
        let mut stream = handshake(&house, &client(&certificate, &rustls::version::TLS13, &["h2"])).await;
        stream.write_all(sent.as_bytes()).await.unwrap();
        rest(&mut stream).await;
    }
}

#[tokio::test]
async fn whoever_takes_no_answer_over_http_2_is_sent_away_though_it_answers_pings() {
    let certificate = certificate();
    let house = House::open(Some(Arc::clone(&certificate.config)), |limits| {
        (limits.idle_timeout, limits.header_read_timeout) = (Duration::from_millis(50), Duration::from_millis(50));
    })
    .await;
    let stream = handshake(&house, &client(&certificate, &rustls::version::TLS13, &["h2"])).await;
    let (mut requests, served) = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(0)
        .handshake::<_, Body>(TokioIo::new(stream))
        .await
        .unwrap();
    let ended = tokio::spawn(served);
    let request = Request::get("https://localhost/").body(Body::empty()).unwrap();
    let answer = requests.send_request(request).await.unwrap();
    assert_eq!(answer.status(), 200);
    let _: hyper::Result<()> = tokio::time::timeout(PATIENCE, ended).await.expect("it is cut").unwrap();
}

#[tokio::test]
async fn one_source_does_not_take_every_place() {
    let capped = |limits: &mut ListenerLimits| limits.max_connections_per_source = 2;
    let house = House::open(None, capped).await;
    let ask = async |stream: &mut TcpStream| {
        stream.write_all(GET.as_bytes()).await.unwrap();
        answer(stream, "127.0.0.1 -").await;
    };
    let (mut first, mut second) = (house.connect().await, house.connect().await);
    ask(&mut first).await;
    ask(&mut second).await;
    assert_eq!(rest(&mut house.connect().await).await, "", "a third is closed unread");
    drop(first);
    let again = async {
        loop {
            let mut next = house.connect().await;
            if next.write_all(GET.as_bytes()).await.is_ok() && !first_bytes(&mut next).await.is_empty() {
                break;
            }
        }
    };
    tokio::time::timeout(PATIENCE, again).await.expect("whoever leaves makes room");
    ask(&mut second).await;

    let shared = House::open(None, |limits| {
        capped(limits);
        limits.shared_sources = vec!["127.0.0.0/8".parse().unwrap()];
    })
    .await;
    let mut many = Vec::new();
    for _ in 0..10 {
        let mut stream = shared.connect().await;
        ask(&mut stream).await;
        many.push(stream);
    }
}

/// What comes first; nothing where the connection is closed.
async fn first_bytes(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = vec![0; 64];
    let read = tokio::time::timeout(PATIENCE, stream.read(&mut bytes)).await.expect("an answer or an end");
    bytes.truncate(read.unwrap_or(0));
    bytes
}

#[tokio::test]
async fn whoever_does_not_read_its_answers_is_sent_away() {
    let house = House::open(None, |limits| {
        limits.write_timeout = Duration::from_millis(200);
        limits.max_connections = 1;
    })
    .await;
    let mut deaf = house.connect().await;
    let unread = async { while deaf.write_all(GET.repeat(1_000).as_bytes()).await.is_ok() {} };
    tokio::time::timeout(PATIENCE, unread).await.expect("its connection is cut");
    let mut next = house.connect().await;
    next.write_all(GET.as_bytes()).await.unwrap();
    assert!(answer(&mut next, "127.0.0.1 -").await.starts_with("HTTP/1.1 200"), "its place is free again");
}

#[tokio::test]
async fn whoever_does_not_finish_a_handshake_is_sent_away_and_holds_up_nobody() {
    let certificate = certificate();
    let change = |limits: &mut ListenerLimits| limits.handshake_timeout = Duration::from_millis(200);
    let house = House::open(Some(Arc::clone(&certificate.config)), change).await;
    let mut silent = house.connect().await;
    let mut stream = handshake(&house, &client(&certificate, &rustls::version::TLS13, &[])).await;
    stream.write_all(GET.as_bytes()).await.unwrap();
    answer(&mut stream, "localhost").await;
    assert_eq!(rest(&mut silent).await, "");
}

#[tokio::test]
async fn one_source_takes_its_share_of_the_handshakes_and_leaves_the_rest() {
    let certificate = certificate();
    let connector = client(&certificate, &rustls::version::TLS13, &[]);
    for (share, others_get_in) in [(2, true), (4, false)] {
        let house = House::open(Some(Arc::clone(&certificate.config)), |limits| {
            (limits.max_handshakes, limits.max_handshakes_per_source) = (4, share);
            limits.handshake_timeout = Duration::from_secs(600);
        })
        .await;
        let mut silent = Vec::new();
        for _ in 0..16 {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind((Ipv4Addr::new(127, 0, 0, 2), 0).into()).unwrap();
            silent.push(socket.connect(house.address).await.unwrap());
        }
        // Where they may take all, they have all by the time that nobody gets in any longer.
        let mut got_in = true;
        for _ in 0..if others_get_in { 8 } else { 100 } {
            let name = ServerName::try_from("localhost").unwrap();
            let handshake = connector.connect(name, house.connect().await);
            let patience = if others_get_in { PATIENCE } else { Duration::from_millis(200) };
            got_in = matches!(tokio::time::timeout(patience, handshake).await, Ok(Ok(_)));
            if !got_in {
                break;
            }
        }
        assert_eq!(got_in, others_get_in, "{share} of 4");
    }
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let house = House::open(None, |limits| limits.max_header_bytes = 8 * 1024).await;
    let mut stream = house.connect().await;
    let head = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX-A: {}\r\n\r\n", "a".repeat(16 * 1024));
    stream.write_all(head.as_bytes()).await.unwrap();
    assert!(rest(&mut stream).await.starts_with("HTTP/1.1 431"));
}

#[tokio::test]
async fn a_place_is_free_again_when_its_connection_ends() {
    let house = House::open(None, |limits| limits.max_connections = 1).await;
    let mut first = house.connect().await;
    first.write_all(GET.as_bytes()).await.unwrap();
    answer(&mut first, "127.0.0.1 -").await;
    let mut second = house.connect().await;
    second.write_all(GET.as_bytes()).await.unwrap();
    let early = tokio::time::timeout(Duration::from_millis(100), second.read_u8()).await;
    assert!(early.is_err(), "answered although every place was taken");
    drop(first);
    answer(&mut second, "127.0.0.1 -").await;
}

#[tokio::test]
async fn a_request_whose_caller_hangs_up_is_dropped() {
    let house = House::open(None, |_| ()).await;
    let mut held = house.connect().await;
    held.write_all(GET.replace("/ ", "/held ").as_bytes()).await.unwrap();
    house.holds(1).await;
    drop(held);
    house.holds(0).await;
}

#[tokio::test]
async fn stopping_lets_requests_finish_and_takes_no_more() {
    let mut house = House::open(None, |_| ()).await;
    let mut idle = house.connect().await;
    idle.write_all(GET.as_bytes()).await.unwrap();
    answer(&mut idle, "127.0.0.1 -").await;
    let mut held = house.connect().await;
    held.write_all(GET.replace("/ ", "/held ").as_bytes()).await.unwrap();
    house.holds(1).await;
    house.stop();
    assert_eq!(rest(&mut idle).await, "", "an idle connection ends at once");
    assert!(TcpStream::connect(house.address).await.is_err(), "nobody listens any longer");
    house.finish.notify_one();
    assert!(rest(&mut held).await.ends_with("held"));
    assert_eq!(house.served.await.unwrap(), Drained::Wholly);
}

#[tokio::test]
async fn a_request_that_does_not_finish_is_cut() {
    let mut house = House::open(None, |limits| limits.drain = Duration::from_millis(50)).await;
    let mut held = house.connect().await;
    held.write_all(GET.replace("/ ", "/held ").as_bytes()).await.unwrap();
    house.holds(1).await;
    house.stop();
    assert_eq!(rest(&mut held).await, "");
    assert_eq!(house.served.await.unwrap(), Drained::Cut(1));
}

#[test]
fn files_that_cannot_be_served_with_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let made = |name: &str| rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    let (one, other) = (made("a"), made("b"));
    let chain = file("chain.pem", &one.cert.pem());
    let key = file("key.pem", &one.signing_key.serialize_pem());
    let empty = file("empty.pem", "");
    let another = file("another.pem", &other.signing_key.serialize_pem());
    assert!(Certificates::load(&chain, &key).is_ok());
    for (chain, key, named) in [
        (&empty, &key, "empty.pem"),
        (&chain, &empty, "empty.pem"),
        (&folder.path().join("none.pem"), &key, "none.pem"),
        (&chain, &another, "another.pem"),
    ] {
        let error = Certificates::load(chain, key).unwrap_err().to_string();
        assert!(error.contains(named), "{error}");
    }
}
