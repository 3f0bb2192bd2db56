//! Each way in which a server does not do what it is asked, by a real one; by a scripted one where that cannot be brought
//! to it.

use std::time::Duration;

use hallpass_core::port::{Belongs, CredentialBackend as _, IssueError, Undone};
use hallpass_core::time::Ttl;
use hallpass_tests::eventually;
use hallpass_tests::openbao::OpenBao;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::{Lab, mint, token};

fn parameters() -> Value {
    json!({"policies": ["app"]})
}

async fn fails(lab: &Lab, n: u64) -> IssueError {
    lab.mint(&lab.order(n, parameters())).await.map(|_| ()).unwrap_err()
}

// CASE REV-006
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sealed_server_did_nothing_and_says_nothing_is_gone() {
    let Some(server) = OpenBao::start_over_tls().await else { return };
    let lab = Lab::at(server).await;
    let (issued, handle) = lab.mint(&lab.order(1, parameters())).await.unwrap();
    lab.server.write("sys/seal", &json!({})).await;
    let failed = fails(&lab, 2).await;
    assert!(matches!(&failed, IssueError::Unavailable { internal } if internal.contains("sealed")), "{failed}");
    assert!(lab.backend.revoke(&handle).await.is_err());
    assert!(lab.backend.inventory().await.is_err());
    lab.server.unseal().await;
    assert_eq!(lab.get(token(&issued), "secret/app").await.0, 200, "the control: it still works");
    assert_eq!(lab.backend.revoke(&handle).await, Ok(Undone::Gone));
    assert_eq!(lab.get(token(&issued), "secret/app").await.0, 403);
}

// CASE BE-003
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_hanging_server_nothing_is_known_and_everything_is_found_when_it_goes_on() {
    let Some(lab) = Lab::open().await else { return };
    let hasty = lab.another("vault", super::INSTANCE, |settings| settings.timeout = Ttl::from_secs(1));
    let (issued, handle) = mint(&hasty, &lab.order(1, parameters())).await.unwrap();
    lab.server.freeze();
    let order = lab.order(2, parameters());
    let failed = mint(&hasty, &order).await.map(|_| ()).unwrap_err();
    assert!(matches!(failed, IssueError::OutcomeUnknown { .. }), "{failed}");
    assert!(hasty.revoke(&handle).await.is_err());
    lab.server.thaw();
    // It may go on with what it was asked, and make the token that nobody waits for.
    let planned = hasty.plan(&order).unwrap();
    eventually("nothing of either is left", Duration::from_secs(20), async || {
        for handle in [&handle, &planned] {
            hasty.revoke(handle).await.ok()?;
        }
        let items = hasty.inventory().await.ok()?;
        items.iter().all(|item| item.belongs == Belongs::ToOthers).then_some(())
    })
    .await;
    assert_eq!(hasty.revoke(&handle).await, Ok(Undone::Gone));
    assert_eq!(lab.get(token(&issued), "secret/app").await.0, 403);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_not_there_did_nothing() {
    let Some(mut lab) = Lab::open().await else { return };
    let (_, handle) = lab.mint(&lab.order(1, parameters())).await.unwrap();
    lab.server.stop();
    // Of what was sent over a connection that was kept, before it is found closed, nobody knows what became of it.
    let first = fails(&lab, 2).await;
    assert!(matches!(first, IssueError::Unavailable { .. } | IssueError::OutcomeUnknown { .. }), "{first}");
    let failed = fails(&lab, 3).await;
    assert!(matches!(failed, IssueError::Unavailable { .. }), "{failed}");
    assert!(lab.backend.revoke(&handle).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_is_not_trusted_is_sent_nothing() {
    let Some(server) = OpenBao::start_over_tls().await else { return };
    let lab = Lab::at(server).await;
    lab.mint(&lab.order(1, parameters())).await.unwrap();
    let before = lab.server.accessors().await;
    let stranger = lab.another("vault", super::INSTANCE, |settings| settings.ca_file = None);
    let failed = mint(&stranger, &lab.order(2, parameters())).await.map(|_| ()).unwrap_err();
    let said = failed.to_string();
    assert!(matches!(failed, IssueError::Unavailable { .. }) && said.contains("authority"), "{said}");
    assert_eq!(lab.server.accessors().await, before);
}

// CASE REV-006
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_that_was_narrowed_is_a_refusal_and_one_fresh_login_not_many() {
    let Some(lab) = Lab::open().await else { return };
    let (issued, handle) = lab.mint(&lab.order(1, parameters())).await.unwrap();
    lab.server.write("sys/policies/acl/hallpass", &json!({"policy": "# nothing"})).await;
    let failed = fails(&lab, 2).await;
    assert!(
        matches!(&failed, IssueError::Refused { detail, internal: Some(internal), .. }
        if internal.contains("permission denied") && !detail.contains("denied")),
        "{failed}"
    );
    let failed = lab.backend.revoke(&handle).await.unwrap_err();
    assert!(failed.internal.contains("permission denied"), "{failed}");
    lab.server.write("sys/policies/acl/hallpass", &json!({"policy": super::POLICY})).await;
    assert_eq!(lab.backend.revoke(&handle).await, Ok(Undone::Gone));
    assert_eq!(lab.get(token(&issued), "secret/app").await.0, 403);
}

// CASE BE-005
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_server_refuses_is_kept_in_its_words_without_a_secret() {
    let Some(lab) = Lab::open().await else { return };
    let missing = lab.order(1, json!({"policies": ["kv"], "path": "secret/none"}));
    let policy = "path \"secret/none\" { capabilities = [\"read\"] }";
    lab.server.write("sys/policies/acl/kv", &json!({"policy": policy})).await;
    let failed = lab.mint(&missing).await.map(|_| ()).unwrap_err();
    assert!(matches!(failed, IssueError::Refused { .. }), "{failed}");
    let denied = lab.order(2, json!({"policies": ["kv"], "path": "secret/other"}));
    let failed = lab.mint(&denied).await.map(|_| ()).unwrap_err();
    assert!(
        matches!(&failed, IssueError::Refused { detail, internal: Some(internal), .. }
        if internal.contains("permission denied") && !detail.contains("denied")),
        "{failed}"
    );
    let session = std::fs::read_to_string(lab.folder.path().join("token")).unwrap();
    assert!(!format!("{failed:?}").contains(session.trim()));
}

/// A server that answers every request with this.
async fn answering(status: &'static str, body: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let length = body.len();
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 8192]).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    origin
}

// CASE BE-002
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_active_node_is_found_behind_nodes_that_cannot() {
    let Some(lab) = Lab::open().await else { return };
    let standby = answering("473 Standby", "").await;
    let busy = answering("429 Too Many Requests", r#"{"errors":["rate limit quota exceeded"]}"#).await;
    let dead = answering("503 Service Unavailable", r#"{"errors":["Vault is sealed"]}"#).await;
    let nodes = [standby.as_str(), busy.as_str(), dead.as_str()].map(|origin| origin.parse().unwrap());
    let cluster = lab.another("vault", super::INSTANCE, |settings| {
        let active = settings.addresses.clone();
        settings.addresses = nodes.iter().cloned().chain(active).collect();
    });
    let (issued, handle) = mint(&cluster, &lab.order(1, parameters())).await.unwrap();
    assert_eq!(lab.get(token(&issued), "secret/app").await.0, 200);
    assert_eq!(cluster.revoke(&handle).await, Ok(Undone::Gone));
    let alone = lab.another("vault", super::INSTANCE, |settings| settings.addresses = nodes.to_vec());
    let failed = mint(&alone, &lab.order(2, parameters())).await.map(|_| ()).unwrap_err();
    assert!(matches!(failed, IssueError::Unavailable { .. }), "{failed}");
}
