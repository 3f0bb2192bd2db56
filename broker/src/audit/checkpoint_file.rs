//! The newest checkpoint as a file, which is replaced whole.

use std::fs::{File, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use hallpass_core::port::{Anchor, AnchorFailed};

/// Longest file that is read.
const MAX_BYTES: u64 = 256 * 1024;
/// Everybody may know it: it is worth something only once others keep it too.
const MODE: u32 = 0o644;

/// A file with the newest checkpoint.
#[derive(Clone, Debug)]
pub struct CheckpointFile {
    path: PathBuf,
}

impl CheckpointFile {
    /// The file at `path`.
    #[must_use]
    pub const fn new(path: PathBuf) -> Self {
        Self { path }
    }

    async fn on<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> Result<T, AnchorFailed> {
        let path = self.path.clone();
        let failed = |error: &dyn std::fmt::Display| AnchorFailed(format!("{}: {error}", self.path.display()));
        match tokio::task::spawn_blocking(move || work(&path)).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => Err(failed(&error)),
            Err(error) => Err(failed(&error)),
        }
    }
}

#[async_trait]
impl Anchor for CheckpointFile {
    async fn read(&self) -> Result<Option<String>, AnchorFailed> {
        self.on(read).await
    }

    async fn keep(&self, note: &str) -> Result<(), AnchorFailed> {
        let note = note.to_owned();
        self.on(move |path| replace(path, note.as_bytes())).await
    }
}

fn read(path: &Path) -> io::Result<Option<String>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut text = String::new();
    file.take(MAX_BYTES).read_to_string(&mut text)?;
    Ok(Some(text))
}

/// A crash leaves the old file or the new one, and never half of one.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(content)?;
    file.as_file().set_permissions(Permissions::from_mode(MODE))?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_kept_is_read_back_and_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint");
        let file = CheckpointFile::new(path.clone());
        assert_eq!(file.read().await, Ok(None));
        for note in ["a note\n", "another, longer note\n", ""] {
            file.keep(note).await.unwrap();
            assert_eq!(file.read().await.unwrap().as_deref(), Some(note));
        }
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_used_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = CheckpointFile::new(folder.path().join("no such folder/checkpoint"));
        assert!(file.keep("x").await.unwrap_err().to_string().contains("no such folder/checkpoint"));
        let file = CheckpointFile::new(folder.path().to_owned());
        file.read().await.unwrap_err();
    }
}
