//! Key-encryption keys: files beside the broker that protect what the store keeps.
//!
//! A key file holds 32 random bytes in standard base64 on one line, as `openssl rand -base64 32` writes it. Whoever
//! reads it can open every sealed value, so a file that others could read or replace is refused: any group or other
//! permission, a symbolic link, anything but a regular file, an owner besides the broker's user and root (CWE-732).

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hallpass_core::entropy::{Entropy, EntropyUnavailable};
use ring::digest;
use rustix::fs::OFlags;
use zeroize::Zeroizing;

/// Length of a key-encryption key in bytes: AES-256 and HKDF-SHA256 at full strength.
const KEY_LEN: usize = 32;

/// Base64 of a key, with room for a line end. A longer file is not a key file, and is not read further.
const MAX_FILE_LEN: usize = 64;

/// Length of a key's id in bytes: enough to tell the few keys of a list apart. It is stored with each sealed value and
/// discloses nothing: the key behind the digest is 256 random bits.
pub(super) const KEY_ID_LEN: usize = 8;

/// The list of key-encryption keys: the active one seals, all of them open.
///
/// To rotate, make a new file the active one and keep the old file in the list until nothing sealed under it is left.
pub struct KeyEncryptionKeys {
    active: Kek,
    retired: Vec<Kek>,
}

impl KeyEncryptionKeys {
    /// Reads the active key and those that it replaced.
    ///
    /// # Errors
    /// [`KeyFileError`] for the first file that is unsafe, malformed, or the same key again.
    pub fn read(active: &Path, retired: &[PathBuf]) -> Result<Self, KeyFileError> {
        let mut keys = Self { active: Kek::read(active)?, retired: Vec::with_capacity(retired.len()) };
        for path in retired {
            let key = Kek::read(path)?;
            if keys.iter().any(|other| other.id == key.id) {
                return Err(KeyFileError::Duplicate { path: path.clone() });
            }
            keys.retired.push(key);
        }
        Ok(keys)
    }

    /// As [`KeyEncryptionKeys::read`] with one key, which is made first where there is no file. For a first start on a
    /// developer's machine; in production a missing key is a mistake to report, not one to paper over.
    ///
    /// # Errors
    /// [`KeyFileError`].
    pub fn read_or_create(path: &Path, entropy: &dyn Entropy) -> Result<Self, KeyFileError> {
        match Self::read(path, &[]) {
            Err(KeyFileError::Missing { .. }) => {
                Self::create(path, entropy)?;
                Self::read(path, &[])
            }
            outcome => outcome,
        }
    }

    /// Writes a new key file: mode 0600, whole or not at all, durable, never over a file that exists.
    ///
    /// # Errors
    /// [`KeyFileError::Exists`] and others.
    pub fn create(path: &Path, entropy: &dyn Entropy) -> Result<(), KeyFileError> {
        let mut key = Zeroizing::new([0_u8; KEY_LEN]);
        entropy.fill(key.as_mut_slice())?;
        let mut line = Zeroizing::new(String::with_capacity(MAX_FILE_LEN));
        STANDARD.encode_string(key.as_slice(), &mut line);
        line.push('\n');

        let unwritable = |source| KeyFileError::Unwritable { path: path.to_owned(), source };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // A temporary file is made with mode 0600 and takes the name only when it is complete: a crash leaves no
        // truncated key behind that a later start would trip over.
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(unwritable)?;
        file.write_all(line.as_bytes()).map_err(unwritable)?;
        file.as_file().sync_all().map_err(unwritable)?;
        file.persist_noclobber(path).map_err(|refused| match refused.error.kind() {
            std::io::ErrorKind::AlreadyExists => KeyFileError::Exists { path: path.to_owned() },
            _ => unwritable(refused.error),
        })?;
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(unwritable)
    }

    pub(super) fn active(&self) -> &Kek {
        &self.active
    }

    pub(super) fn by_id(&self, id: &[u8]) -> Option<&Kek> {
        self.iter().find(|key| key.id == id)
    }

    /// All keys, the active one first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Kek> {
        std::iter::once(&self.active).chain(&self.retired)
    }
}

impl std::fmt::Debug for KeyEncryptionKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter().map(|_| "[REDACTED]")).finish()
    }
}

/// One key-encryption key. On the heap, so that moving the list leaves no copies behind; wiped when dropped.
pub(super) struct Kek {
    pub(super) id: [u8; KEY_ID_LEN],
    pub(super) key: Box<Zeroizing<[u8; KEY_LEN]>>,
}

impl Kek {
    fn read(path: &Path) -> Result<Self, KeyFileError> {
        let text = read_private_file(path)?;
        let malformed = || KeyFileError::Malformed { path: path.to_owned() };
        let line = text.strip_suffix(b"\n").unwrap_or(&text);
        let mut key = Box::new(Zeroizing::new([0_u8; KEY_LEN]));
        let written = STANDARD.decode_slice(line, key.as_mut_slice()).map_err(|_| malformed())?;
        // One byte repeated is a placeholder that somebody forgot to replace.
        if written != KEY_LEN || key.iter().all(|byte| Some(byte) == key.first()) {
            return Err(malformed());
        }
        Ok(Self { id: key_id(&key), key })
    }
}

/// The first bytes of a labelled SHA-256 of the key.
fn key_id(key: &[u8; KEY_LEN]) -> [u8; KEY_ID_LEN] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(b"hallpass key-encryption key id v1");
    context.update(key);
    let digest = context.finish();
    digest.as_ref().first_chunk().copied().unwrap_or_default()
}

/// Reads a file that only the broker's user and root can read or replace.
fn read_private_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyFileError> {
    let unreadable = |source| KeyFileError::Unreadable { path: path.to_owned(), source };
    // NOFOLLOW: whoever may write a link in the folder must not choose the key. NONBLOCK: opening a pipe must not hang.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file =
        OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path).map_err(
            |source| match source.raw_os_error() {
                _ if source.kind() == std::io::ErrorKind::NotFound => KeyFileError::Missing { path: path.to_owned() },
                Some(code) if code == rustix::io::Errno::LOOP.raw_os_error() => {
                    KeyFileError::Link { path: path.to_owned() }
                }
                _ => unreadable(source),
            },
        )?;
    // Checks are on the open file, not on the path: nobody can swap it in between.
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(KeyFileError::NotAFile { path: path.to_owned() });
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(KeyFileError::Exposed { path: path.to_owned(), mode: metadata.mode() & 0o7777 });
    }
    let user = rustix::process::geteuid().as_raw();
    if metadata.uid() != user && metadata.uid() != 0 {
        return Err(KeyFileError::ForeignOwner { path: path.to_owned(), owner: metadata.uid() });
    }
    let mut text = Zeroizing::new(Vec::with_capacity(MAX_FILE_LEN + 1));
    file.take(MAX_FILE_LEN as u64 + 1).read_to_end(&mut text).map_err(unreadable)?;
    if text.len() > MAX_FILE_LEN {
        return Err(KeyFileError::Malformed { path: path.to_owned() });
    }
    Ok(text)
}

/// A key file that cannot or must not be used.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the fields are the file and what was found")]
pub enum KeyFileError {
    /// There is no such file.
    #[error("{path}: there is no such key file; make one with `openssl rand -base64 32` and mode 0600", path = path.display())]
    Missing { path: PathBuf },
    /// It exists and was to be created.
    #[error("{path}: exists already and is not overwritten: what was sealed under it would be lost", path = path.display())]
    Exists { path: PathBuf },
    /// The operating system refused to read it.
    #[error("{path}: cannot be read", path = path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    /// The operating system refused to write it.
    #[error("{path}: cannot be written", path = path.display())]
    Unwritable { path: PathBuf, source: std::io::Error },
    /// A symbolic link.
    #[error("{path}: is a symbolic link; name the key file itself", path = path.display())]
    Link { path: PathBuf },
    /// A folder, a pipe, a device.
    #[error("{path}: is not a regular file", path = path.display())]
    NotAFile { path: PathBuf },
    /// Others than its owner may read or write it.
    #[error("{path}: mode {mode:04o} lets others at the key; use 0600 or 0400", path = path.display())]
    Exposed { path: PathBuf, mode: u32 },
    /// It belongs to somebody else, who could replace it.
    #[error("{path}: belongs to user {owner}; it must belong to the broker's user or to root", path = path.display())]
    ForeignOwner { path: PathBuf, owner: u32 },
    /// Its content is not a key.
    #[error("{path}: is not a key: write 32 random bytes in base64 on one line, as `openssl rand -base64 32` does", path = path.display())]
    Malformed { path: PathBuf },
    /// The list names one key twice.
    #[error("{path}: holds a key that is in the list already", path = path.display())]
    Duplicate { path: PathBuf },
    /// No randomness for a new key.
    #[error(transparent)]
    Entropy(#[from] EntropyUnavailable),
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use hallpass_core::testing::SeededEntropy;

    use super::*;

    fn write(path: &Path, text: &str, mode: u32) {
        std::fs::write(path, text).unwrap();
        std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    fn base64_of(byte: u8) -> String {
        let mut key = [byte; KEY_LEN];
        key[0] = byte.wrapping_add(1);
        STANDARD.encode(key)
    }

    #[test]
    fn a_key_file_is_made_once_for_its_owner_alone_and_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kek");
        let first = KeyEncryptionKeys::read_or_create(&path, &SeededEntropy::new(1)).unwrap();
        let metadata = std::fs::metadata(&path).unwrap();
        assert_eq!(metadata.mode() & 0o7777, 0o600);
        let again = KeyEncryptionKeys::read_or_create(&path, &SeededEntropy::new(2)).unwrap();
        assert_eq!(first.active().id, again.active().id);
        let refused = KeyEncryptionKeys::create(&path, &SeededEntropy::new(3)).unwrap_err();
        assert!(matches!(refused, KeyFileError::Exists { .. }), "{refused}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn a_key_file_that_others_could_read_or_write_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kek");
        for mode in [0o600, 0o400, 0o700] {
            write(&path, &base64_of(7), mode);
            assert!(KeyEncryptionKeys::read(&path, &[]).is_ok(), "{mode:o}");
        }
        for mode in [0o640, 0o604, 0o620, 0o602, 0o660, 0o644, 0o666, 0o601, 0o610] {
            write(&path, &base64_of(7), mode);
            let refused = KeyEncryptionKeys::read(&path, &[]).unwrap_err();
            assert!(
                matches!(refused, KeyFileError::Exposed { mode: found, .. } if found == mode),
                "{mode:o}: {refused}"
            );
        }
    }

    #[test]
    fn a_link_a_folder_and_a_pipe_are_not_key_files() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("kek"), folder.path().join("link"));
        write(&path, &base64_of(7), 0o600);
        symlink(&path, &link).unwrap();
        assert!(matches!(KeyEncryptionKeys::read(&link, &[]), Err(KeyFileError::Link { .. })));
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o700)).unwrap();
        assert!(matches!(KeyEncryptionKeys::read(folder.path(), &[]), Err(KeyFileError::NotAFile { .. })));
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").args(["-m", "600"]).arg(&pipe).status().unwrap().success());
        assert!(matches!(KeyEncryptionKeys::read(&pipe, &[]), Err(KeyFileError::NotAFile { .. })));
        assert!(matches!(KeyEncryptionKeys::read(&folder.path().join("none"), &[]), Err(KeyFileError::Missing { .. })));
    }

    #[test]
    fn only_32_bytes_in_base64_are_a_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kek");
        for good in [base64_of(7), format!("{}\n", base64_of(7))] {
            write(&path, &good, 0o600);
            assert!(KeyEncryptionKeys::read(&path, &[]).is_ok(), "{good:?}");
        }
        let short = STANDARD.encode([7_u8; 31]);
        let long = STANDARD.encode((0..33).collect::<Vec<u8>>());
        let zeros = STANDARD.encode([0_u8; 32]);
        let two_lines = format!("{}\n\n", base64_of(7));
        let endless = "A".repeat(100_000);
        for bad in ["", "\n", &short, &long, &zeros, &two_lines, &endless, &base64_of(7)[..43], "not base64!"] {
            write(&path, bad, 0o600);
            assert!(matches!(KeyEncryptionKeys::read(&path, &[]), Err(KeyFileError::Malformed { .. })), "{bad:.50?}");
        }
    }

    #[test]
    fn a_list_holds_each_key_once_and_does_not_print() {
        let folder = tempfile::tempdir().unwrap();
        let (new, old) = (folder.path().join("new"), folder.path().join("old"));
        write(&new, &base64_of(1), 0o600);
        write(&old, &base64_of(2), 0o600);
        let keys = KeyEncryptionKeys::read(&new, std::slice::from_ref(&old)).unwrap();
        assert_eq!(keys.iter().count(), 2);
        assert_eq!(format!("{keys:?}"), r#"["[REDACTED]", "[REDACTED]"]"#);
        let refused = KeyEncryptionKeys::read(&new, &[old, new.clone()]).unwrap_err();
        assert!(matches!(refused, KeyFileError::Duplicate { .. }), "{refused}");
    }
}
