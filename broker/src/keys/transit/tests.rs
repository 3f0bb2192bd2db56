use std::path::Path;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

/// A server that answers every request with this, and the key that it has.
async fn answering(status: &str, body: &str) -> (TransitKek, tempfile::TempDir) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let length = body.len();
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    let folder = tempfile::tempdir().unwrap();
    (key(&address, folder.path()), folder)
}

fn key(address: &str, folder: &Path) -> TransitKek {
    let token_file = folder.join("token");
    std::fs::write(&token_file, "s.token\n").unwrap();
    let settings = TransitSettings {
        address: Url::parse(address).unwrap(),
        mount: "transit".to_owned(),
        key: "hallpass".to_owned(),
        namespace: None,
        token_file,
        allow_http: AllowHttp::Loopback,
    };
    TransitKek::new(settings, Outbound::new(None).unwrap())
}

async fn wrap(kek: &TransitKek) -> Result<Wrapping, KekError> {
    kek.wrap_key(DataKeyId([7; 8]), &SecretBytes::new(vec![9; 32])).await
}

async fn unwrap(kek: &TransitKek) -> Result<SecretBytes, KekError> {
    let wrapping = Wrapping { kek: kek.name().to_owned(), version: "1".to_owned(), wrapped: b"vault:v1:xyz".to_vec() };
    kek.unwrap_key(DataKeyId([7; 8]), &wrapping).await
}

#[tokio::test]
async fn an_answer_is_taken_as_transit_gives_it() {
    let (kek, _folder) = answering("200 OK", r#"{"data":{"ciphertext":"vault:v12:abc","key_version":12}}"#).await;
    let wrapping = wrap(&kek).await.unwrap();
    assert_eq!((wrapping.kek.as_str(), wrapping.version.as_str()), ("transit:transit/hallpass", "12"));
    assert_eq!(wrapping.wrapped, b"vault:v12:abc");
    let body = format!(r#"{{"data":{{"plaintext":"{}"}}}}"#, STANDARD.encode([9; 32]));
    let (kek, _folder) = answering("200 OK", &body).await;
    assert_eq!(unwrap(&kek).await.unwrap(), SecretBytes::new(vec![9; 32]));
}

#[tokio::test]
async fn each_refusal_has_its_kind_and_says_what_would_be_right() {
    for (status, body, kind, says) in [
        (
            "403 Forbidden",
            r#"{"errors":["permission denied"]}"#,
            "refused",
            "permit update on transit/decrypt/hallpass",
        ),
        ("404 Not Found", r#"{"errors":["no handler for route"]}"#, "missing", "transit/decrypt/hallpass"),
        (
            "400 Bad Request",
            r#"{"errors":["cipher: message authentication failed"]}"#,
            "does not open",
            "authentication",
        ),
        ("503 Service Unavailable", r#"{"errors":["Vault is sealed"]}"#, "unavailable", "Vault is sealed"),
        ("500 Internal Server Error", "<html>", "unavailable", "does not say why"),
        ("302 Found", "", "unavailable", "status 302"),
        ("200 OK", "{}", "unavailable", "something else"),
        ("200 OK", r#"{"data":{"plaintext":"!"}}"#, "does not open", "no ciphertext"),
    ] {
        let (kek, _folder) = answering(status, body).await;
        let refused = unwrap(&kek).await.unwrap_err();
        let found = match &refused {
            KekError::Refused(_) => "refused",
            KekError::Missing(_) => "missing",
            KekError::DoesNotOpen(_) => "does not open",
            KekError::Unavailable(_) => "unavailable",
            KekError::Failed => "failed",
        };
        assert_eq!(found, kind, "{status}: {refused}");
        assert!(refused.to_string().contains(says), "{status}: {refused}");
        assert!(!refused.to_string().contains("s.token"), "{refused}");
    }
    let (kek, _folder) = answering("200 OK", r#"{"data":{"ciphertext":"abc"}}"#).await;
    assert!(matches!(wrap(&kek).await, Err(KekError::Unavailable(_))));
    let (kek, _folder) = answering("200 OK", &"x".repeat(MAX_ANSWER + 1)).await;
    assert!(matches!(wrap(&kek).await, Err(KekError::Unavailable(said)) if said.contains("longer")));
}

#[tokio::test]
async fn nobody_there_is_unavailable_and_plain_http_elsewhere_is_never_asked() {
    let folder = tempfile::tempdir().unwrap();
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let refused = wrap(&key(&format!("http://{free}"), folder.path())).await;
    assert!(matches!(refused, Err(KekError::Unavailable(_))), "{refused:?}");
    let refused = wrap(&key("http://192.0.2.1:8200", folder.path())).await;
    assert!(matches!(refused, Err(KekError::Refused(_))), "{refused:?}");
}

#[tokio::test]
async fn a_token_file_holds_one_token_and_is_read_each_time() {
    let (kek, _folder) = answering("200 OK", r#"{"data":{"ciphertext":"vault:v1:abc"}}"#).await;
    let file = kek.settings.token_file.clone();
    wrap(&kek).await.unwrap();
    for bad in ["", "\n", "two words", "a\nb", &"x".repeat(9_000)] {
        std::fs::write(&file, bad).unwrap();
        let refused = wrap(&kek).await.unwrap_err();
        assert!(matches!(&refused, KekError::Refused(said) if said.contains("holds no token")), "{refused}");
    }
    std::fs::write(&file, "s.renewed").unwrap();
    wrap(&kek).await.unwrap();
    std::fs::remove_file(&file).unwrap();
    assert!(matches!(wrap(&kek).await, Err(KekError::Refused(said)) if said.contains("token")));
}
