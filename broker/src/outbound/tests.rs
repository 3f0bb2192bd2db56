use std::io::Write as _;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::identity::testing::{Behaviour, TestServer};

fn get(url: &Url) -> Get<'_> {
    Get {
        url,
        accept: "application/json",
        if_none_match: None,
        max_bytes: 1000,
        deadline: Duration::from_secs(5),
        allow_http: AllowHttp::Loopback,
    }
}

fn client() -> Outbound {
    Outbound::new(None).unwrap()
}

/// A server that reads a request, sends this text and then nothing more, without closing.
async fn raw(answer: String) -> Url {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
    tokio::spawn(async move {
        let mut open = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(answer.as_bytes()).await;
            open.push(stream);
        }
    });
    url
}

#[tokio::test]
async fn a_document_comes_with_its_tag_and_age() {
    let server = TestServer::start().await;
    let headers = vec![("etag", "\"v1\"".to_owned()), ("cache-control", "public, Max-Age=60".to_owned())];
    server.set("/", Behaviour::Answer(StatusCode::OK, headers, vec![b'x'; 1000]));
    let url = Url::parse(&server.origin).unwrap();
    let answer = client().get(get(&url)).await.unwrap();
    let max_age = Some(Ttl::from_secs(60));
    assert_eq!(answer, Answer::Body { bytes: vec![b'x'; 1000].into(), etag: Some("\"v1\"".to_owned()), max_age });

    server.set("/", Behaviour::Tagged("\"v1\"", String::new()));
    let answer = client().get(Get { if_none_match: Some("\"v1\""), ..get(&url) }).await;
    assert_eq!(answer, Ok(Answer::NotModified { max_age: None }));
    server.set("/", Behaviour::status(304));
    assert_eq!(client().get(get(&url)).await, Err(OutboundError::UnaskedNotModified));
}

#[tokio::test]
async fn an_answer_that_is_too_long_is_not_read() {
    let server = TestServer::start().await;
    server.set("/", Behaviour::json("x".repeat(1001)));
    let url = Url::parse(&server.origin).unwrap();
    assert_eq!(client().get(get(&url)).await, Err(OutboundError::TooLarge(1000)));

    // One that does not say how long it will be is read up to the limit.
    let chunk = format!("{:x}\r\n{}\r\n", 600, "x".repeat(600));
    let url = raw(format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}{chunk}")).await;
    assert_eq!(client().get(get(&url)).await, Err(OutboundError::TooLarge(1000)));
}

#[tokio::test]
async fn a_compressed_answer_is_not_unpacked() {
    let server = TestServer::start().await;
    let bomb = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    let headers = vec![("content-encoding", "gzip".to_owned())];
    server.set("/", Behaviour::Answer(StatusCode::OK, headers, bomb.clone()));
    let answer = client().get(get(&Url::parse(&server.origin).unwrap())).await;
    assert!(matches!(answer, Ok(Answer::Body { bytes, .. }) if bytes == bomb));
}

#[tokio::test]
async fn an_answer_that_does_not_end_is_given_up_at_the_deadline() {
    for answer in ["", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345"] {
        let url = raw(answer.to_owned()).await;
        let quick = Get { deadline: Duration::from_millis(100), ..get(&url) };
        assert_eq!(client().get(quick).await, Err(OutboundError::Deadline), "{answer:?}");
    }
}

// CASE BE-001
#[tokio::test]
async fn redirects_are_not_followed() {
    let server = TestServer::start().await;
    let location = vec![("location", format!("{}/elsewhere", server.origin))];
    server.set("/", Behaviour::Answer(StatusCode::TEMPORARY_REDIRECT, location, Vec::new()));
    let url = Url::parse(&server.origin).unwrap();
    assert_eq!(client().get(get(&url)).await, Err(OutboundError::Status(307)));
    assert_eq!(server.asked("/elsewhere"), 0);
}

#[test]
fn plain_http_goes_only_where_it_was_allowed_to() {
    let allowed = |url: &str, allow| check_url(&Url::parse(url).unwrap(), allow).is_ok();
    for url in ["http://127.0.0.1:8080/", "http://127.9.9.9/", "http://[::1]/", "http://localhost/", "http://0x7f.1/"] {
        assert!(!allowed(url, AllowHttp::Never), "{url}");
        assert!(allowed(url, AllowHttp::Loopback), "{url}");
    }
    for url in
        ["http://idp.test/", "http://localhost.evil.example/", "http://10.0.0.1/", "http://0.0.0.0/", "http://[::]/"]
    {
        assert!(!allowed(url, AllowHttp::Loopback), "{url}");
        assert!(allowed(url, AllowHttp::DangerousAnywhere), "{url}");
    }
    assert!(allowed("https://idp.test/", AllowHttp::Never));
    for url in
        ["https://user@idp.test/", "https://:password@idp.test/", "https://idp.test@evil.example/", "ftp://idp.test/"]
    {
        assert!(!allowed(url, AllowHttp::DangerousAnywhere), "{url}");
    }
    assert!(check_url(&Url::parse("file:///etc/passwd").unwrap(), AllowHttp::DangerousAnywhere).is_err());
}

#[tokio::test]
async fn localhost_is_this_machine() {
    let server = TestServer::start().await;
    server.set("/", Behaviour::json("{}"));
    let url = Url::parse(&server.origin.replace("127.0.0.1", "localhost")).unwrap();
    assert!(client().get(get(&url)).await.is_ok());
}

#[test]
fn cache_control_is_read_as_strictly_as_it_can_be_meant() {
    let read = |values: &[&str]| {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(CACHE_CONTROL, value.parse().unwrap());
        }
        max_age(&headers).map(Ttl::as_secs)
    };
    assert_eq!(read(&[]), None);
    assert_eq!(read(&["public, must-revalidate"]), None);
    assert_eq!(read(&["public,max-age=60"]), Some(60));
    assert_eq!(read(&["max-age=\"60\""]), Some(60));
    assert_eq!(read(&["max-age=60, max-age=30"]), Some(30));
    assert_eq!(read(&["max-age=60", "no-store"]), Some(0));
    assert_eq!(read(&["max-age=-1"]), Some(0));
    assert_eq!(read(&["max-age="]), Some(0));
    assert_eq!(read(&["max-age"]), Some(0));
    assert_eq!(read(&["max-age=99999999999999999999999"]), Some(u64::MAX));
}

/// A TLS server on loopback with a certificate for `name`, and the PEM of the authority that signed it.
async fn tls_server(name: &str, not_after: (i32, u8, u8)) -> (u16, String) {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut leaf = CertificateParams::new([name.to_owned()]).unwrap();
    leaf.not_after = rcgen::date_time_ymd(not_after.0, not_after.1, not_after.2);
    let leaf = leaf.signed_by(&key, &authority).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _): (TcpStream, _) = listener.accept().await.unwrap();
            if let Ok(mut stream) = acceptor.accept(stream).await {
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await;
                let _ = stream.shutdown().await;
            }
        }
    });
    (port, authority.pem())
}

#[tokio::test]
async fn a_certificate_must_be_valid_for_the_host_and_from_a_trusted_authority() {
    let ask = async |name: &str, not_after, trusted: bool| {
        let (port, authority) = tls_server(name, not_after).await;
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(authority.as_bytes()).unwrap();
        let client = Outbound::new(trusted.then_some(file.path())).unwrap();
        let url = Url::parse(&format!("https://localhost:{port}/")).unwrap();
        client.get(Get { allow_http: AllowHttp::Never, ..get(&url) }).await
    };
    assert!(ask("localhost", (2100, 1, 1), true).await.is_ok());
    for (what, outcome) in [
        ("an unknown authority", ask("localhost", (2100, 1, 1), false).await),
        ("another host", ask("other.test", (2100, 1, 1), true).await),
        ("expired", ask("localhost", (2020, 1, 1), true).await),
    ] {
        let error = outcome.unwrap_err().to_string();
        assert!(error.contains("certificate") && !error.contains("localhost:"), "{what}: {error}");
    }
}

#[test]
fn a_file_of_authorities_must_hold_some() {
    let empty = tempfile::NamedTempFile::new().unwrap();
    assert!(matches!(Outbound::new(Some(empty.path())), Err(OutboundSetupError::Authorities("no certificate"))));
    assert!(Outbound::new(Some(Path::new("/does/not/exist.pem"))).is_err());
}
