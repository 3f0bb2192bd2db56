//! Writes and syncs of the ledger fail. The audit log is in the same database, so each credential that a caller holds has
//! its entries on the disk, or it was not given out; and what the disk did not confirm is not taken for written.
//!
//! The library of `chaos/iofault.c` fails the broker's writes and notes how much of the write-ahead log was synced. A power
//! cut is played by killing the broker and cutting the log to that length.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use hallpass_tests::{component, eventually, size};
use tempfile::TempDir;

use crate::house::House;
use crate::ledger;
use crate::process::{DEADLINE, Start};
use crate::witness::{CLIENTS, Errand, Wanted, Witness};

/// How the disk fails: names of the files that `chaos/iofault.c` looks for.
const FAULTS: [&str; 3] = ["sync", "write", "full"];

/// A broker whose disk fails on demand.
struct Faulty {
    house: House,
    library: PathBuf,
    faults: TempDir,
}

impl Faulty {
    async fn open() -> Option<Self> {
        let library = component::iofault()?;
        let faults = TempDir::with_prefix("hallpass-faults-").expect("a temporary folder");
        let mut faulty = Self { house: House::build().await, library, faults };
        faulty.start().await;
        Some(faulty)
    }

    async fn start(&mut self) {
        let path = |path: &Path| path.to_str().expect("a path in UTF-8").to_owned();
        let (library, folder) = (path(&self.library), path(self.faults.path()));
        let environment = [("LD_PRELOAD", library.as_str()), ("IOFAULT_FOLDER", folder.as_str())];
        self.house.start_as(Start { environment: &environment, ..Start::default() }).await;
    }

    fn begin(&self, fault: &str) {
        File::create(self.faults.path().join(fault)).expect("a file");
    }

    fn end(&self, fault: &str) {
        fs::remove_file(self.faults.path().join(fault)).expect("it was there");
    }

    /// What is left of the write-ahead log when the power fails: what was synced.
    fn cut_to_what_is_durable(&self) -> u64 {
        let durable = fs::read_to_string(self.faults.path().join("durable")).expect("something was synced");
        let durable: u64 = durable.parse().expect("a length");
        let log = PathBuf::from(format!("{}-wal", self.house.database.display()));
        let file = File::options().write(true).open(log).expect("a write-ahead log");
        let written = file.metadata().expect("a length").len();
        assert!(written >= durable, "the log has {written} bytes, of which {durable} were synced");
        file.set_len(durable).expect("it can be cut");
        written - durable
    }
}

// EXP-11
#[tokio::test]
async fn while_the_disk_fails_nothing_is_given_out_and_afterwards_it_works_again_without_a_restart() {
    let Some(faulty) = Faulty::open().await else { return };
    let witness = Witness::default();
    let process = faulty.house.process.id();
    for fault in FAULTS {
        let before = witness.ask(&faulty.house.caller, Wanted::Token).await.expect("an answer");
        faulty.begin(fault);
        for number in 0..size(12, 200) {
            let wanted = if number % 4 == 0 { Wanted::Certificate } else { Wanted::Token };
            assert_eq!(ask(&faulty, &witness, wanted).await, 503, "{fault}");
        }
        let ended = faulty.house.caller.revoke(&before.errand.proof, &before.grant).await.expect("an answer");
        assert_eq!(ended.status, 503, "{fault}: an end was promised that is written nowhere: {}", ended.text);
        assert_eq!(faulty.house.operations("/readyz").await, Some(503), "{fault}");
        faulty.end(fault);
        eventually("it gives credentials out again", DEADLINE, async || {
            (ask(&faulty, &witness, Wanted::Token).await == 200).then_some(())
        })
        .await;
        assert!(witness.end(&faulty.house.caller, &before).await, "{fault}: what was open can be ended again");
        ledger::assert_sound(&faulty.house.store());
    }
    assert_eq!(faulty.house.process.id(), process, "it was restarted");
    witness.assert_kept(&faulty.house).await;
}

// EXP-11
#[tokio::test]
async fn whoever_holds_a_credential_has_its_record_after_a_power_cut_on_a_disk_that_failed() {
    let Some(mut faulty) = Faulty::open().await else { return };
    let witness = Witness::default();
    let mut lost = 0;
    for _ in 0..size(2, 40) {
        let load = tokio::spawn({
            let (witness, caller) = (witness.clone(), faulty.house.caller.clone());
            async move { ask_until_silence(witness, caller).await }
        });
        let before = witness.received().len();
        eventually("the load has begun", DEADLINE, async || {
            (witness.received().len() >= before + CLIENTS * 4).then_some(())
        })
        .await;
        faulty.begin("sync");
        eventually("the disk fails", DEADLINE, async || {
            (ask(&faulty, &witness, Wanted::Token).await == 503).then_some(())
        })
        .await;
        faulty.house.process.kill9().await;
        faulty.end("sync");
        load.await.expect("clients met what they did not expect");
        // In one round or another: the log may just have been begun anew.
        lost += faulty.cut_to_what_is_durable();
        faulty.start().await;
        witness.assert_kept(&faulty.house).await;
    }
    assert!(lost > 0, "nothing was ever written that the disk did not confirm");
}

/// Clients that take a refusal for an answer, and stop when nobody answers.
async fn ask_until_silence(witness: Witness, caller: crate::caller::Caller) {
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..CLIENTS {
        let (witness, caller) = (witness.clone(), caller.clone());
        clients.spawn(async move {
            loop {
                let errand = Errand::new(&caller, Wanted::Token);
                witness.asks(&errand);
                let Ok(reply) = errand.run(&caller, None).await else { return };
                match reply.status {
                    200 => drop(witness.receive(errand, &reply)),
                    status => assert_eq!(status, 503, "{}", reply.text),
                }
            }
        });
    }
    while let Some(ended) = clients.join_next().await {
        ended.expect("a client met what it did not expect");
    }
}

/// Asks for a credential and gives the status. What was asked is written down whatever the answer: a commit whose sync
/// failed may be found after a crash, and then is a record without a credential, which harms nobody.
async fn ask(faulty: &Faulty, witness: &Witness, wanted: Wanted) -> u16 {
    let errand = Errand::new(&faulty.house.caller, wanted);
    witness.asks(&errand);
    let reply = errand.run(&faulty.house.caller, None).await.expect("an answer");
    match reply.status {
        200 | 201 => drop(witness.receive(errand, &reply)),
        _ => assert!(reply.token().is_none() && reply.body["credential"].is_null(), "{}", reply.text),
    }
    reply.status
}
