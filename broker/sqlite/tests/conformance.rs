//! The promises of every store, kept on SQLite.
#![allow(clippy::expect_used, reason = "test code")]

use std::sync::Arc;

use hallpass_core::testing::store_suite::Fresh;
use hallpass_core::testing::{TestSealer, sample};
use hallpass_sqlite::SqliteStore;

hallpass_core::store_suite!(fresh);

async fn fresh() -> Fresh {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let path = folder.path().join("hallpass.db");
    let store = SqliteStore::open(&path, Arc::new(TestSealer::new(1)), sample::id(1)).expect("a new store opens");
    Fresh { store: Arc::new(store), keep: Box::new(folder) }
}
