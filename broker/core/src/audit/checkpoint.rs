//! Checkpoints (C2SP tlog-checkpoint): a log's size and root, signed. Whoever keeps one can tell later whether the log is
//! still the same up to there.

use std::fmt;
use std::sync::Arc;

use super::note::{self, InvalidVerifierKey, NoteRejected, VerifierKey};
use super::tree::TreeHead;
use crate::id::LogId;
use crate::port::{AuditKeys, Signer, SigningFailed};

/// What a log says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log, in the words that it signs with.
    pub origin: String,
    /// How long it is, and what it comes to.
    pub head: TreeHead,
}

/// A checkpoint with its signature: a signed note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedCheckpoint {
    /// What it says.
    pub checkpoint: Checkpoint,
    /// All of it, as it is handed out.
    pub note: String,
}

/// Why a checkpoint cannot be believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointRejected {
    /// The note is none, or not the key's.
    #[error(transparent)]
    Note(#[from] NoteRejected),
    /// What was signed is not a checkpoint.
    #[error("what was signed is not a checkpoint: {0}")]
    Malformed(&'static str),
}

impl Checkpoint {
    /// Reads the text of a note. Extension lines are left alone.
    ///
    /// # Errors
    /// [`CheckpointRejected::Malformed`].
    pub fn parse(text: &str) -> Result<Self, CheckpointRejected> {
        let malformed = CheckpointRejected::Malformed;
        let mut lines = text.strip_suffix('\n').ok_or(malformed("its last line does not end"))?.split('\n');
        let origin = lines.next().filter(|line| !line.is_empty()).ok_or(malformed("it has no origin"))?;
        let size = lines.next().unwrap_or_default();
        let size = size.parse().ok().filter(|number: &u64| number.to_string() == size);
        let size = size.ok_or(malformed("its second line is not the number of entries"))?;
        let root = lines.next().unwrap_or_default().parse();
        let root = root.map_err(|_| malformed("its third line is not a hash"))?;
        if lines.any(str::is_empty) {
            return Err(malformed("it has an empty line"));
        }
        Ok(Self { origin: origin.to_owned(), head: TreeHead { size, root } })
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n{}\n{}", self.origin, self.head.size, self.head.root)
    }
}

impl SignedCheckpoint {
    /// Reads a note, if `key` has signed it.
    ///
    /// # Errors
    /// [`CheckpointRejected`].
    pub fn open(note: &str, key: &VerifierKey) -> Result<Self, CheckpointRejected> {
        let checkpoint = Checkpoint::parse(key.open(note)?)?;
        Ok(Self { checkpoint, note: note.to_owned() })
    }
}

/// Signs the checkpoints of one log.
#[derive(Clone)]
pub struct CheckpointSigner {
    origin: String,
    keys: Arc<dyn AuditKeys>,
    /// The key that signed at first: its name stands where there is none that signs.
    first: VerifierKey,
}

impl CheckpointSigner {
    /// Signs with `signer`, an Ed25519 key, as `origin`.
    ///
    /// # Errors
    /// [`InvalidVerifierKey`] when the origin cannot name a key, or the key is not Ed25519.
    pub fn new(origin: &str, signer: Arc<dyn Signer>) -> Result<Self, InvalidVerifierKey> {
        Self::by(origin, Arc::new(vec![signer]))
    }

    /// Signs as `origin` with the one of `keys` that signs at the time, each an Ed25519 key.
    ///
    /// # Errors
    /// [`InvalidVerifierKey`] when the origin cannot name a key, or there is no key that is Ed25519.
    pub fn by(origin: &str, keys: Arc<dyn AuditKeys>) -> Result<Self, InvalidVerifierKey> {
        let signers = keys.audit_signers();
        let first = signers.first().map(|signer| signer.public_key()).unwrap_or_default();
        Ok(Self { origin: origin.to_owned(), first: VerifierKey::new(origin, first)?, keys })
    }

    /// The origin of a log whose broker is reached at `public_url`, where configuration gives no other.
    #[must_use]
    pub fn usual_origin(public_url: &str, log: LogId) -> String {
        let host = public_url.split_once("://").map_or(public_url, |(_, host)| host);
        format!("{host}/audit/{log}")
    }

    /// Which log it signs for.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// What verifies the checkpoints that it signs now.
    #[must_use]
    pub fn verifier_key(&self) -> VerifierKey {
        self.verifier_keys().into_iter().next().unwrap_or_else(|| self.first.clone())
    }

    /// What verifies its checkpoints, of now and of before.
    #[must_use]
    pub fn verifier_keys(&self) -> Vec<VerifierKey> {
        let signers = self.keys.audit_signers();
        signers.iter().filter_map(|signer| VerifierKey::new(&self.origin, signer.public_key()).ok()).collect()
    }

    /// Whether one of its keys, of now or of before, has signed `note`.
    #[must_use]
    pub fn has_signed(&self, note: &str) -> bool {
        self.verifier_keys().iter().any(|key| SignedCheckpoint::open(note, key).is_ok())
    }

    /// Signs that the log stands at `head`. The entries must be committed: what is signed cannot be taken back.
    ///
    /// # Errors
    /// [`SigningFailed`].
    pub fn sign(&self, head: TreeHead) -> Result<SignedCheckpoint, SigningFailed> {
        let checkpoint = Checkpoint { origin: self.origin().to_owned(), head };
        let signer = self.keys.audit_signers().into_iter().next().ok_or(SigningFailed)?;
        let note = note::sign(&checkpoint.to_string(), self.origin(), signer.as_ref())?;
        Ok(SignedCheckpoint { checkpoint, note })
    }
}

impl fmt::Debug for CheckpointSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CheckpointSigner").field("key", &self.verifier_key().to_string()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tree::TreeHash;
    use super::*;
    use crate::testing::{TestSigner, sample};

    fn signer(origin: &str) -> CheckpointSigner {
        CheckpointSigner::new(origin, Arc::new(TestSigner::new(1))).unwrap()
    }

    #[test]
    fn a_checkpoint_is_three_lines_and_a_signature() {
        let origin = CheckpointSigner::usual_origin("https://hallpass.example:8443", sample::id(1));
        let head = TreeHead { size: 5, root: TreeHash::of_nothing() };
        let signed = signer(&origin).sign(head).unwrap();
        let lines: Vec<&str> = signed.note.split('\n').collect();
        assert_eq!(lines[0], format!("hallpass.example:8443/audit/{}", sample::id::<LogId>(1)));
        assert_eq!(&lines[1..4], ["5", "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=", ""]);
        assert!(lines[4].starts_with(&format!("— {origin} ")), "{}", lines[4]);
        assert_eq!(lines[5..], [""]);
        assert_eq!(SignedCheckpoint::open(&signed.note, &signer(&origin).verifier_key()), Ok(signed.clone()));
        let other = CheckpointSigner::new(&origin, Arc::new(TestSigner::new(2))).unwrap();
        assert!(SignedCheckpoint::open(&signed.note, &other.verifier_key()).is_err());
        let longer = signed.note.replace("\n5\n", "\n6\n");
        assert!(SignedCheckpoint::open(&longer, &signer(&origin).verifier_key()).is_err());
    }

    #[test]
    fn what_is_no_checkpoint_is_refused_whoever_signed_it() {
        let root = TreeHash::of_nothing();
        let key = signer("o");
        let read = |text: &str| {
            let note = note::sign(text, "o", key.keys.audit_signers()[0].as_ref()).unwrap();
            SignedCheckpoint::open(&note, &key.verifier_key()).map(|signed| signed.checkpoint.head.size)
        };
        assert_eq!(read(&format!("o\n0\n{root}\n")), Ok(0));
        assert_eq!(read(&format!("o\n7\n{root}\nan extension\n")), Ok(7));
        for bad in [
            format!("\n7\n{root}\n"),
            format!("o\n07\n{root}\n"),
            format!("o\n-7\n{root}\n"),
            format!("o\n\n{root}\n"),
            "o\n7\n".to_owned(),
            "o\n7\nAAAA\n".to_owned(),
            "o\n".to_owned(),
            format!("o\n7\n{root}\n\nmore\n"),
        ] {
            assert!(matches!(read(&bad), Err(CheckpointRejected::Malformed(_))), "{bad:?}");
        }
    }

    /// Keys of which the newest comes first, as a test puts them there.
    #[derive(Default)]
    struct Keys(std::sync::Mutex<Vec<Arc<dyn Signer>>>);

    impl AuditKeys for Keys {
        fn audit_signers(&self) -> Vec<Arc<dyn Signer>> {
            self.0.lock().unwrap().clone()
        }
    }

    #[test]
    fn the_key_that_signs_changes_and_what_it_signed_still_counts_until_it_is_distrusted() {
        let keys = Arc::new(Keys::default());
        assert!(CheckpointSigner::by("o", Arc::clone(&keys) as _).is_err(), "without a key there is no signer");
        keys.0.lock().unwrap().push(Arc::new(TestSigner::new(1)));
        let signer = CheckpointSigner::by("o", Arc::clone(&keys) as _).unwrap();
        let head = TreeHead { size: 7, root: TreeHash::of_nothing() };
        let (before, by_first) = (signer.verifier_key(), signer.sign(head).unwrap());
        keys.0.lock().unwrap().insert(0, Arc::new(TestSigner::new(2)));
        let by_second = signer.sign(head).unwrap();
        assert_ne!(signer.verifier_key(), before);
        assert!(SignedCheckpoint::open(&by_second.note, &signer.verifier_key()).is_ok());
        assert!(SignedCheckpoint::open(&by_second.note, &before).is_err());
        let counts = |note: &str| signer.has_signed(note);
        assert!(counts(&by_first.note) && counts(&by_second.note));
        keys.0.lock().unwrap().pop();
        assert!(!counts(&by_first.note) && counts(&by_second.note));
        keys.0.lock().unwrap().clear();
        assert_eq!(signer.sign(head), Err(SigningFailed));
    }
}
