//! The process gets too little of what it needs: no file descriptors, hardly any more memory, a fifth of the processor.
//! Then it is slow or silent, and never generous; what is to end ends; and it works again without a restart.

use std::convert::Infallible;
use std::time::Duration;

use hallpass_tests::config::ROLE;
use hallpass_tests::{eventually, size};
use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::caller::Proof;
use crate::house::House;
use crate::ledger::{self, hex, text};
use crate::process::{DEADLINE, Process};
use crate::witness::{Wanted, Witness};

/// Descriptors that the broker may have.
const DESCRIPTORS: u64 = 128;
/// The broker runs in one turn of these, and is stopped for the four after it.
const TURN: Duration = Duration::from_millis(10);
const TURNS: u32 = 5;
/// Memory that it may have beyond what it has.
const SPARE_MEGABYTES: u64 = 256;

// EXP-15
#[tokio::test]
async fn without_file_descriptors_it_ends_what_is_to_end_and_serves_again_when_strangers_are_gone() {
    let mut house = House::open().await;
    let witness = Witness::default();
    let before = witness.ask(&house.caller, Wanted::Token).await.expect("an answer");
    let silent = hex(&open_with_heartbeat(&house).await);
    let process = house.process.id();
    limit(&house, Resource::Nofile, DESCRIPTORS);

    // Half of them say nothing, half begin a request and send no more of it than a line.
    let mut strangers = Vec::new();
    for number in 0..size(300, 5_000) {
        let Ok(Ok(mut stream)) =
            tokio::time::timeout(Duration::from_secs(1), TcpStream::connect(house.caller.address())).await
        else {
            break;
        };
        if number % 2 == 0 {
            let _ = stream.write_all(b"POST /oauth2/token HTTP/1.1\r\nHost: broker\r\n").await;
        }
        strangers.push(stream);
    }
    assert!(strangers.len() as u64 > DESCRIPTORS, "only {} connections came to be", strangers.len());
    house.process.says("a connection could not be accepted", 0).await;
    // The grant of the silent one ends though nobody can be served.
    eventually("the grant ends", DEADLINE, async || {
        (text(&ledger::grants(&house.store())[&silent], "state") != "active").then_some(())
    })
    .await;
    assert_eq!(ledger::grants(&house.store()).len(), 2, "something was opened");

    drop(strangers);
    let after = eventually("it serves again", DEADLINE, async || {
        let errand = crate::witness::Errand::new(&house.caller, Wanted::Token);
        let reply = tokio::time::timeout(Duration::from_secs(5), errand.run(&house.caller, None)).await.ok()?.ok()?;
        witness.asks(&errand);
        (reply.status == 200).then(|| witness.receive(errand, &reply))
    })
    .await;
    assert!(witness.end(&house.caller, &before).await && witness.end(&house.caller, &after).await);
    assert!(house.process.runs() && house.process.id() == process, "it was restarted");
    ledger::assert_sound(&house.store());
}

// EXP-15
#[tokio::test]
async fn with_a_fifth_of_the_processor_and_little_memory_it_keeps_every_word() {
    let mut house = House::open().await;
    let witness = Witness::patient();
    assert!(witness.ask(&house.caller, Wanted::Token).await.is_some());
    let held = kilobytes(house.process.id(), "VmSize:");
    limit(&house, Resource::As, (held + SPARE_MEGABYTES * 1024) * 1024);
    let load = tokio::spawn({
        let (witness, caller) = (witness.clone(), house.caller.clone());
        async move { witness.watch_until_silence(&caller).await }
    });
    let wanted = size(60, 3_000);
    let enough = async {
        // Longer than elsewhere: it has a fifth of the time.
        eventually("credentials come", DEADLINE * 5, async || (witness.received().len() >= wanted).then_some(())).await;
        let short = witness.received().into_iter().find(|one| one.errand.wanted == Wanted::ShortToken).expect("one");
        eventually("what is short ends", DEADLINE * 5, async || {
            (text(&ledger::grants(&house.store())[&hex(&short.grant)], "state") == "expired").then_some(())
        })
        .await;
    };
    tokio::select! {
        never = starve(&house.process) => match never {},
        () = enough => {}
    }
    house.process.signal(Signal::CONT);
    assert!(house.process.runs(), "it ended");
    house.process.signal(Signal::TERM);
    load.await.expect("clients met what they did not expect");
    let status = house.process.ended().await;
    assert!(status.success(), "{status}");
    house.start().await;
    witness.assert_kept(&house).await;
}

/// Lets the broker run for a fifth of the time: the trouble itself, which waits for nothing.
async fn starve(process: &Process) -> Infallible {
    let mut turns = tokio::time::interval(TURN);
    loop {
        process.signal(Signal::CONT);
        turns.tick().await;
        process.signal(Signal::STOP);
        for _ in 1..TURNS {
            turns.tick().await;
        }
    }
}

fn limit(house: &House, of: Resource, to: u64) {
    let maximum = rustix::process::getrlimit(of).maximum;
    let set = prlimit(Some(house.process.id()), of, Rlimit { current: Some(to), maximum });
    set.expect("the limit of our own process can be set");
}

/// A figure of `/proc/PID/status`, such as `VmSize:`.
pub(crate) fn kilobytes(process: Pid, what: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.as_raw_nonzero())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix(what)).expect("its size");
    line.split_whitespace().next().expect("a number").parse().expect("kilobytes")
}

/// A grant that ends when its holder is silent for five seconds.
pub(crate) async fn open_with_heartbeat(house: &House) -> String {
    let body = json!({"role": ROLE, "purpose": "deploy build 4f2c", "ends_when": {"heartbeat": "5s"}});
    let proof: Proof = house.caller.proof();
    let reply = house.caller.open(&proof, &body, None).await.expect("an answer");
    reply.assert_status(201);
    reply.grant().to_owned()
}
