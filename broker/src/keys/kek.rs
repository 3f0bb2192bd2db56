//! Key-encryption keys that the broker itself holds: from a file beside it, or from its environment.
//!
//! Such a key is 32 random bytes in standard base64 on one line, as `openssl rand -base64 32` writes it. Whoever reads it
//! can open every sealed value, so a file that others could read or replace is refused: any group or other permission, a
//! symbolic link, anything but a regular file, an owner besides the broker's user and root (CWE-732).

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hallpass_core::entropy::{Entropy, EntropyUnavailable};
use hallpass_core::port::{DataKeyId, KekError, KeyEncryptionKey, Wrapping};
use hallpass_core::secret::SecretBytes;
use rustix::fs::OFlags;
use zeroize::Zeroizing;

use super::secret_key::{KEY_LEN, Kind, SecretKey};

/// Base64 of a key, with room for a line end. A longer text is not a key, and is not read further.
const MAX_TEXT_LEN: usize = 64;

/// The one version of a key that has no versions.
const ONLY_VERSION: &str = "1";

/// A key that the broker holds in memory.
pub struct LocalKek {
    key: Arc<SecretKey>,
    name: String,
    place: String,
    entropy: Arc<dyn Entropy>,
}

impl LocalKek {
    /// The key in a file.
    ///
    /// # Errors
    /// [`KeyFileError`] when the file is missing, unsafe or malformed.
    pub fn read_file(path: &Path, entropy: &Arc<dyn Entropy>) -> Result<Self, KeyFileError> {
        let text = read_private_file(path)?;
        let key = parse(&text).ok_or_else(|| KeyFileError::Malformed { path: path.to_owned() })?;
        Ok(Self::of(key, format!("the file {}", path.display()), entropy))
    }

    /// As [`LocalKek::read_file`], and made first where there is no file. For a first start on a developer's machine; in
    /// production a missing key is a mistake to report, not one to paper over.
    ///
    /// # Errors
    /// [`KeyFileError`].
    pub fn read_or_create_file(path: &Path, entropy: &Arc<dyn Entropy>) -> Result<Self, KeyFileError> {
        match Self::read_file(path, entropy) {
            Err(KeyFileError::Missing { .. }) => {
                Self::create_file(path, entropy.as_ref())?;
                Self::read_file(path, entropy)
            }
            outcome => outcome,
        }
    }

    /// The key in the value of the environment variable `name`.
    ///
    /// # Errors
    /// [`KeyVariableError`] when there is none, or it is malformed. The value is in no error.
    pub fn from_variable(
        name: &str,
        value: Option<&Zeroizing<Vec<u8>>>,
        entropy: &Arc<dyn Entropy>,
    ) -> Result<Self, KeyVariableError> {
        let value = value.ok_or_else(|| KeyVariableError::Missing { name: name.to_owned() })?;
        let key = parse(value).ok_or_else(|| KeyVariableError::Malformed { name: name.to_owned() })?;
        Ok(Self::of(key, format!("the environment variable {name}"), entropy))
    }

    /// Writes a new key file: mode 0600, whole or not at all, durable, never over a file that exists.
    ///
    /// # Errors
    /// [`KeyFileError::Exists`] and others.
    pub fn create_file(path: &Path, entropy: &dyn Entropy) -> Result<(), KeyFileError> {
        let mut key = Zeroizing::new([0_u8; KEY_LEN]);
        entropy.fill(key.as_mut_slice())?;
        let mut line = Zeroizing::new(String::with_capacity(MAX_TEXT_LEN));
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

    fn of(key: SecretKey, place: String, entropy: &Arc<dyn Entropy>) -> Self {
        let name = format!("local:{}", key.id());
        Self { key: Arc::new(key), name, place, entropy: Arc::clone(entropy) }
    }

    /// The key, which values were sealed under directly before there were data keys.
    pub(super) fn key(&self) -> Arc<SecretKey> {
        Arc::clone(&self.key)
    }
}

impl std::fmt::Debug for LocalKek {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalKek").field("key", &self.key).field("place", &self.place).finish_non_exhaustive()
    }
}

#[async_trait]
impl KeyEncryptionKey for LocalKek {
    fn name(&self) -> &str {
        &self.name
    }

    fn place(&self) -> String {
        self.place.clone()
    }

    async fn wrap_key(&self, id: DataKeyId, key: &SecretBytes) -> Result<Wrapping, KekError> {
        let wrapped = self.key.seal(Kind::DataKey, &id.0, key.expose(), self.entropy.as_ref());
        let wrapped = wrapped.ok_or(KekError::Failed)?;
        Ok(Wrapping { kek: self.name.clone(), version: ONLY_VERSION.to_owned(), wrapped })
    }

    async fn unwrap_key(&self, id: DataKeyId, wrapping: &Wrapping) -> Result<SecretBytes, KekError> {
        let opened = self.key.open(Kind::DataKey, &id.0, &wrapping.wrapped);
        opened.ok_or_else(|| KekError::DoesNotOpen("its tag does not verify".to_owned()))
    }
}

/// A key in base64, with or without a line end.
fn parse(text: &[u8]) -> Option<SecretKey> {
    let line = text.strip_suffix(b"\n").unwrap_or(text);
    if line.len() > MAX_TEXT_LEN {
        return None;
    }
    let mut key = Box::new(Zeroizing::new([0_u8; KEY_LEN]));
    let written = STANDARD.decode_slice(line, key.as_mut_slice()).ok()?;
    // One byte repeated is a placeholder that somebody forgot to replace.
    let placeholder = key.iter().all(|byte| Some(byte) == key.first());
    (written == KEY_LEN && !placeholder).then(|| SecretKey::of(key))
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
    let mut text = Zeroizing::new(Vec::with_capacity(MAX_TEXT_LEN + 1));
    file.take(MAX_TEXT_LEN as u64 + 1).read_to_end(&mut text).map_err(unreadable)?;
    if text.len() > MAX_TEXT_LEN {
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
    /// No randomness for a new key.
    #[error(transparent)]
    Entropy(#[from] EntropyUnavailable),
}

/// An environment variable that is no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the field is the variable's name")]
pub enum KeyVariableError {
    /// It is not set.
    #[error(
        "the environment has no variable {name}: set it to 32 random bytes in base64, as `openssl rand -base64 32` writes them"
    )]
    Missing { name: String },
    /// Its value is not a key.
    #[error(
        "the environment variable {name} is not a key: set it to 32 random bytes in base64, as `openssl rand -base64 32` writes them"
    )]
    Malformed { name: String },
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

    fn entropy(n: u64) -> Arc<dyn Entropy> {
        Arc::new(SeededEntropy::new(n))
    }

    fn read(path: &Path) -> Result<LocalKek, KeyFileError> {
        LocalKek::read_file(path, &entropy(9))
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
        let first = LocalKek::read_or_create_file(&path, &entropy(1)).unwrap();
        let metadata = std::fs::metadata(&path).unwrap();
        assert_eq!(metadata.mode() & 0o7777, 0o600);
        let again = LocalKek::read_or_create_file(&path, &entropy(2)).unwrap();
        assert_eq!(first.name(), again.name());
        let refused = LocalKek::create_file(&path, &SeededEntropy::new(3)).unwrap_err();
        assert!(matches!(refused, KeyFileError::Exists { .. }), "{refused}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn a_key_file_that_others_could_read_or_write_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kek");
        for mode in [0o600, 0o400, 0o700] {
            write(&path, &base64_of(7), mode);
            assert!(read(&path).is_ok(), "{mode:o}");
        }
        for mode in [0o640, 0o604, 0o620, 0o602, 0o660, 0o644, 0o666, 0o601, 0o610] {
            write(&path, &base64_of(7), mode);
            let refused = read(&path).unwrap_err();
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
        assert!(matches!(read(&link), Err(KeyFileError::Link { .. })));
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o700)).unwrap();
        assert!(matches!(read(folder.path()), Err(KeyFileError::NotAFile { .. })));
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").args(["-m", "600"]).arg(&pipe).status().unwrap().success());
        assert!(matches!(read(&pipe), Err(KeyFileError::NotAFile { .. })));
        assert!(matches!(read(&folder.path().join("none")), Err(KeyFileError::Missing { .. })));
    }

    #[test]
    fn only_32_bytes_in_base64_are_a_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kek");
        for good in [base64_of(7), format!("{}\n", base64_of(7))] {
            write(&path, &good, 0o600);
            assert!(read(&path).is_ok(), "{good:?}");
        }
        let short = STANDARD.encode([7_u8; 31]);
        let long = STANDARD.encode((0..33).collect::<Vec<u8>>());
        let zeros = STANDARD.encode([0_u8; 32]);
        let two_lines = format!("{}\n\n", base64_of(7));
        let endless = "A".repeat(100_000);
        for bad in ["", "\n", &short, &long, &zeros, &two_lines, &endless, &base64_of(7)[..43], "not base64!"] {
            write(&path, bad, 0o600);
            assert!(matches!(read(&path), Err(KeyFileError::Malformed { .. })), "{bad:.50?}");
        }
    }

    #[test]
    fn a_variable_holds_a_key_as_a_file_does_and_is_never_repeated() {
        let value = |text: &str| Zeroizing::new(text.as_bytes().to_vec());
        let key = LocalKek::from_variable("KEK", Some(&value(&base64_of(7))), &entropy(1)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kek");
        write(&path, &base64_of(7), 0o600);
        assert_eq!(key.name(), read(&path).unwrap().name(), "the same key, wherever it comes from");
        assert_eq!(key.place(), "the environment variable KEK");
        assert!(format!("{key:?}").contains("[REDACTED]") && !format!("{key:?}").contains(&base64_of(7)));
        let short = STANDARD.encode([7_u8; 31]);
        for bad in ["", "hunter2", &short, &STANDARD.encode([0_u8; 32]), &format!("{} ", base64_of(7)), &"A".repeat(90)]
        {
            let refused = LocalKek::from_variable("KEK", Some(&value(bad)), &entropy(1)).unwrap_err();
            assert_eq!(refused, KeyVariableError::Malformed { name: "KEK".to_owned() });
            assert!(bad.is_empty() || !refused.to_string().contains(bad));
        }
        let missing = LocalKek::from_variable("KEK", None, &entropy(1)).unwrap_err();
        assert!(missing.to_string().contains("no variable KEK"), "{missing}");
    }

    #[tokio::test]
    async fn a_wrapped_key_opens_under_the_key_that_wrapped_it_for_its_own_id_and_nothing_else() {
        let kek = |seed: u8| {
            LocalKek::of(
                SecretKey::from_bytes(&[[seed; 31].as_slice(), &[1]].concat()).unwrap(),
                String::new(),
                &entropy(seed.into()),
            )
        };
        let (one, other) = (kek(1), kek(2));
        let (id, data_key) = (DataKeyId([7; 8]), SecretBytes::new(vec![9; 32]));
        let wrapping = one.wrap_key(id, &data_key).await.unwrap();
        assert_eq!((wrapping.kek.as_str(), wrapping.version.as_str()), (one.name(), "1"));
        assert!(!wrapping.wrapped.windows(8).any(|window| window == [9; 8]));
        assert_eq!(one.unwrap_key(id, &wrapping).await.unwrap(), data_key);
        assert!(matches!(other.unwrap_key(id, &wrapping).await, Err(KekError::DoesNotOpen(_))));
        assert!(matches!(one.unwrap_key(DataKeyId([8; 8]), &wrapping).await, Err(KekError::DoesNotOpen(_))));
        // A value of the store is no data key, though the same key sealed it.
        let value = one.key.seal(Kind::Value, &id.0, data_key.expose(), &SeededEntropy::new(3)).unwrap();
        let passed_off = Wrapping { wrapped: value, ..wrapping };
        assert!(matches!(one.unwrap_key(id, &passed_off).await, Err(KekError::DoesNotOpen(_))));
    }
}
