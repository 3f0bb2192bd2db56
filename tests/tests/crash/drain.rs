//! Told to stop: what was begun is finished, what was not begun is not lost, and the process ends by itself.

use std::collections::BTreeSet;
use std::time::Duration;

use hallpass_tests::config::ROLE;
use hallpass_tests::eventually;
use rustix::process::Signal;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::caller::Proof;
use crate::house::House;
use crate::ledger::{self, text};
use crate::process::DEADLINE;
use crate::witness::{CLIENTS, Wanted, Witness};

// EXP-10
#[tokio::test]
async fn told_to_stop_under_load_it_answers_what_it_opened_and_ends_well() {
    let mut house = House::open().await;
    let witness = Witness::default();
    let load = tokio::spawn({
        let (witness, caller) = (witness.clone(), house.caller.clone());
        async move { witness.watch_until_silence(&caller).await }
    });
    eventually("the load has begun", DEADLINE, async || (witness.received().len() >= CLIENTS * 5).then_some(())).await;
    house.process.signal(Signal::TERM);
    let status = house.process.ended().await;
    assert_eq!(status.code(), Some(0), "{status}: {}", house.process.output());
    load.await.expect("clients were refused, which no stopping broker does");

    let answered: BTreeSet<_> = witness.received().into_iter().map(|one| one.errand.proof.id).collect();
    for (id, grant) in ledger::grants(&house.store()) {
        assert_ne!(text(&grant, "state"), "pending", "grant {id}");
        assert!(answered.contains(text(&grant, "proof_id")), "grant {id} was opened and its caller never told");
    }
    house.start().await;
    witness.assert_kept(&house).await;
    assert!(witness.ask(&house.caller, Wanted::Token).await.is_some(), "it does not work after a stop");
}

// EXP-10
#[tokio::test]
async fn a_request_that_has_begun_is_answered_though_nobody_new_is_let_in() {
    let mut house = House::open().await;
    let proof = house.caller.proof();
    let mut begun = Begun::exchange(&house, &proof).await;
    house.process.signal(Signal::TERM);
    eventually("nobody new is let in", Duration::from_secs(10), async || {
        TcpStream::connect(house.caller.address()).await.is_err().then_some(())
    })
    .await;
    assert!(house.process.runs(), "it ended before it had answered");
    let answer = begun.finish().await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
    let body: Value = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"));
    assert!(body["access_token"].is_string(), "{answer}");
    let status = house.process.ended().await;
    assert_eq!(status.code(), Some(0), "{status}: {}", house.process.output());
    house.start().await;
    assert_eq!(ledger::grants(&house.store()).len(), 1);
}

/// A request whose body has not been sent yet, though the broker has asked for it.
struct Begun {
    stream: TcpStream,
    body: String,
}

impl Begun {
    async fn exchange(house: &House, proof: &Proof) -> Self {
        let body: String = [
            ("grant_type", "urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange"),
            ("subject_token", &proof.token),
            ("subject_token_type", "urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Ajwt"),
            ("audience", ROLE),
            ("purpose", "deploy+build+4f2c"),
        ]
        .map(|(name, value)| format!("{name}={value}"))
        .join("&");
        let head = format!(
            "POST /oauth2/token HTTP/1.1\r\nHost: broker\r\nContent-Type: application/x-www-form-urlencoded\r\n\
             Content-Length: {}\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n",
            body.len()
        );
        let mut stream = TcpStream::connect(house.caller.address()).await.expect("a connection");
        stream.write_all(head.as_bytes()).await.expect("it takes the head");
        // RFC 9110 §10.1.1: the broker has read the head, and now waits for the body.
        let mut asked = [0; 25];
        stream.read_exact(&mut asked).await.expect("it asks for the body");
        assert_eq!(&asked, b"HTTP/1.1 100 Continue\r\n\r\n");
        Self { stream, body }
    }

    async fn finish(&mut self) -> String {
        self.stream.write_all(self.body.as_bytes()).await.expect("it takes the body");
        let mut answer = String::new();
        self.stream.read_to_string(&mut answer).await.expect("an answer");
        answer
    }
}
