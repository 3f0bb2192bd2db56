//! Killed while one of the broker's own keys is distrusted: it starts, and the key counts for all or for nothing.

use std::fs;
use std::path::PathBuf;

use hallpass_tests::eventually;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::house::House;
use crate::process::{DEADLINE, assert_killed};

/// Around the commit that says so.
pub(crate) const DISTRUST: &[&str] = &["keys::before-distrust", "keys::after-distrust"];

/// A broker with its newest checkpoint kept beside the database.
async fn house() -> (House, PathBuf) {
    let folder = TempDir::with_prefix("hallpass-crash-").expect("a temporary folder");
    let checkpoint = folder.path().join("elsewhere.checkpoint");
    let house = House::build_in(folder, json!({"audit": {"checkpoint_file": checkpoint}})).await;
    (house, checkpoint)
}

/// The keys of a purpose, as the command lists them.
fn keys(house: &House, purpose: &str) -> Vec<Value> {
    let output = house.process.beside(&["keys", "list", "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let keys: Vec<Value> = serde_json::from_slice(&output.stdout).expect("a list of keys");
    keys.into_iter().filter(|key| key["purpose"] == purpose).collect()
}

fn phase(house: &House, purpose: &str, key: &str) -> String {
    let key = keys(house, purpose).into_iter().find(|one| one["key_id"] == key).expect("the key is listed");
    key["phase"].as_str().expect("a phase").to_owned()
}

fn distrust(house: &House, key: &str) -> bool {
    let output = house.process.beside(&["keys", "distrust", key, "--reason", "its backup was stolen"]);
    let said = String::from_utf8_lossy(&output.stderr);
    let died = !output.status.success();
    assert!(
        !died || said.contains("whether the broker did it is unknown: look with `hallpass-broker keys list`"),
        "{said}"
    );
    !died
}

#[tokio::test]
async fn killed_as_the_key_of_the_log_is_distrusted_it_starts_on_the_log_that_it_signed() {
    for (point, expected) in DISTRUST.iter().zip(["retired", "distrusted"]) {
        let (mut house, checkpoint) = house().await;
        assert!(house.start_to_die(point).await, "{point} was hit before anybody asked for anything");
        let by_the_old =
            eventually("a checkpoint is beside the database", DEADLINE, async || fs::read_to_string(&checkpoint).ok())
                .await;
        let old = keys(&house, "audit")[0]["key_id"].as_str().expect("a key id").to_owned();
        assert!(!distrust(&house, &old), "{point}: nobody was there to answer");
        assert_killed(house.process.ended().await, &house.process.output());
        house.start().await;
        assert_eq!(phase(&house, "audit", &old), expected, "{point}");

        // The control: what only the old key signed counts for as long as that does.
        house.process.kill9().await;
        fs::write(&checkpoint, by_the_old).expect("it is put back");
        if expected == "distrusted" {
            assert!(!house.start_in_vain().await.success());
            let said = house.process.output();
            assert!(said.contains("the checkpoint file cannot be believed"), "{said}");
            for cut in ["", "hallpass.test/audit\n3\n"] {
                fs::write(&checkpoint, cut).expect("it is cut");
                assert!(!house.start_in_vain().await.success());
                let said = house.process.output();
                assert!(
                    said.contains("cannot be believed (it is not a signed note") && !said.contains("is of the log"),
                    "{said}"
                );
            }
        } else {
            house.start().await;
        }
    }
}
