use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

/// A server that answers every request with this.
async fn answering(status: &str, body: &str) -> Url {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let length = body.len();
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    url
}

/// A server that takes every request and never answers.
async fn hanging() -> (Url, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    (Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap(), listener)
}

/// An address where nobody listens.
async fn nobody() -> Url {
    hanging().await.0
}

fn client(addresses: Vec<Url>) -> VaultClient {
    let server = VaultServer {
        addresses,
        namespace: None,
        allow_http: AllowHttp::Loopback,
        deadline: Duration::from_millis(300),
        max_answer: 1024,
    };
    VaultClient::new(server, Outbound::to_backend(None).unwrap())
}

async fn write_at(client: &VaultClient) -> Result<Answered, VaultError> {
    client.ask(Ask::write("auth/token/create", &serde_json::json!({})).unwrap()).await
}

#[tokio::test]
async fn every_way_of_not_doing_it_has_its_kind() {
    for (status, body, kind, says) in [
        ("400 Bad Request", r#"{"errors":["unknown role"]}"#, "refused", "unknown role"),
        ("403 Forbidden", r#"{"errors":["permission denied"]}"#, "refused", "permission denied"),
        ("404 Not Found", r#"{"errors":[]}"#, "refused", "does not say why"),
        ("429 Too Many Requests", r#"{"errors":["rate limit quota exceeded"]}"#, "unavailable", "quota"),
        ("472 DR", "", "unavailable", "472"),
        ("473 Standby", "", "unavailable", "473"),
        ("307 Temporary Redirect", "", "unavailable", "307"),
        ("503 Service Unavailable", r#"{"errors":["Vault is sealed"]}"#, "unavailable", "sealed"),
        ("503 Service Unavailable", "<html>", "unknown", "503"),
        (
            "500 Internal Server Error",
            r#"{"errors":["local node not active but active cluster node not found"]}"#,
            "unavailable",
            "not active",
        ),
        ("500 Internal Server Error", r#"{"errors":["internal error"]}"#, "unknown", "internal error"),
        ("502 Bad Gateway", "<html>", "unknown", "502"),
    ] {
        let client = client(vec![answering(status, body).await]);
        let failed = write_at(&client).await.unwrap_err();
        let found = match &failed {
            VaultError::Refused { .. } => "refused",
            VaultError::Address(_) => "address",
            VaultError::Unavailable(_) => "unavailable",
            VaultError::Unknown(_) => "unknown",
        };
        assert_eq!(found, kind, "{status}: {failed}");
        assert!(failed.to_string().contains(says), "{status}: {failed}");
    }
    assert!(write_at(&client(vec![answering("204 No Content", "").await])).await.is_ok());
    assert!(matches!(write_at(&client(vec![nobody().await])).await, Err(VaultError::Unavailable(_))));
    let (silent, _listening) = hanging().await;
    assert!(matches!(write_at(&client(vec![silent])).await, Err(VaultError::Unknown(_))));
    let elsewhere = Url::parse("http://192.0.2.1:8200").unwrap();
    assert!(matches!(write_at(&client(vec![elsewhere])).await, Err(VaultError::Address(_))));
}

#[tokio::test]
async fn the_next_address_is_asked_where_the_last_one_surely_did_nothing() {
    let (well, sealed) = (answering("200 OK", "{}").await, r#"{"errors":["Vault is sealed"]}"#);
    let sealed = answering("503 Service Unavailable", sealed).await;
    let client_of_three = client(vec![nobody().await, sealed.clone(), well.clone()]);
    assert!(write_at(&client_of_three).await.is_ok());
    assert_eq!(client_of_three.preferred.load(Ordering::Relaxed), 2, "and is asked first from then on");

    let (silent, _listening) = hanging().await;
    let client_of_two = client(vec![silent, well]);
    assert!(matches!(write_at(&client_of_two).await, Err(VaultError::Unknown(_))), "it may have been done");
    let client_of_two = client(client_of_two.server.addresses);
    assert!(client_of_two.ask(Ask::read("sys/health")).await.is_ok(), "reading twice does no harm");

    let refusing = answering("403 Forbidden", r#"{"errors":["permission denied"]}"#).await;
    let refused = write_at(&client(vec![refusing, sealed])).await.unwrap_err();
    assert!(refused.is_denied(), "a refusal is an answer: {refused}");
}

#[test]
fn what_is_passed_on_is_short_and_holds_no_secret() {
    let told = |errors: &[&str]| said(&serde_json::to_vec(&serde_json::json!({"errors": errors})).unwrap());
    assert_eq!(told(&["1 error occurred:\n\t* unknown role: app\n\n"]), "1 error occurred: * unknown role: app");
    for secret in [
        "hvs.CAESIJlWh4Xc0F6rQ3ZbW1",
        "(s.7T8Qm2n0y3W5bXcVdFgHjKlZ)",
        "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln",
        "postgresql://root:hunter2@db.internal/app",
        &"x".repeat(65),
    ] {
        let told = told(&["it failed with", secret, "and ended"]);
        assert_eq!(told, "it failed with; […] and ended", "{secret}");
    }
    assert_eq!(told(&[&"word ".repeat(100)]).chars().count(), 300);
    assert_eq!(said(b"<html>"), "it does not say why");
}
