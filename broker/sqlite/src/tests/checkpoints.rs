//! The write-ahead log is copied beside the writer and does not grow without end.

use crate::checkpoint::{Checkpointer, Limits, checkpoint};
use crate::connection;
use crate::lock::prepare_database_file;

#[test]
fn a_log_that_is_written_to_without_pause_is_begun_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hallpass.db");
    prepare_database_file(&path).unwrap();
    let writer = connection::to_write(&path).unwrap();
    writer.execute_batch("CREATE TABLE notes (n INTEGER PRIMARY KEY, text BLOB)").unwrap();
    let checkpointer = Checkpointer::start(&path, Limits { copy_at: 30, renew_at: 90, little: 60 }).unwrap();
    let (mut longest, mut renewed, mut written) = (0, 0, 0_i64);
    // Bounded: each round writes at least one page.
    while renewed < 3 && written < 20_000 {
        let before = checkpoint(&writer, "NOOP").unwrap().log;
        writer.execute("INSERT INTO notes (text) VALUES (randomblob(8000))", []).unwrap();
        written += 1;
        let after = checkpoint(&writer, "NOOP").unwrap().log;
        renewed += i64::from(after < before);
        longest = longest.max(after);
        checkpointer.after_commit(&writer);
    }
    assert_eq!(renewed, 3, "after {written} commits, {longest} pages at the longest");
    drop(checkpointer);
    let reader = connection::to_read(&path).unwrap();
    let found: i64 = reader.query_row("SELECT count(*) FROM notes", [], |row| row.get(0)).unwrap();
    assert_eq!(found, written);
    drop((reader, writer));
    assert!(!path.with_extension("db-wal").exists(), "the last connection to close leaves the database alone");
}
