//! The bundle loader: one file of the sample bundle in the fuzzer's hands. Never panics; what is wrong is said of a file.
//!
//! Input: a byte that chooses the file, and its text.
#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use hallpass_broker::config::bundle::Bundle;
use hallpass_core::port::Files;
use libfuzzer_sys::fuzz_target;

static SAMPLE: LazyLock<Files> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/sample/bundle");
    Bundle::read(&folder).expect("the sample bundle is read")
});

fuzz_target!(|data: &[u8]| {
    let Some((choice, text)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let mut files = SAMPLE.clone();
    let Some(path) = files.keys().nth(usize::from(*choice) % files.len()).cloned() else { return };
    files.insert(path, text.to_owned());
    match Bundle::from_files(files) {
        Ok(bundle) => {
            let unowned = bundle.catalog.roles.values().find(|role| !bundle.catalog.owners.contains_key(&role.owner));
            assert!(unowned.is_none(), "loaded a role whose owner does not exist");
        }
        Err(findings) => {
            assert!(!findings.is_empty(), "refused without saying why");
            assert!(findings.iter().all(|finding| !finding.reason.is_empty()));
        }
    }
});
