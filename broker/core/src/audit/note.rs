//! Signed notes (C2SP signed-note): a text, and below it a line for each key that signed it.
//!
//! The format is the one of transparency logs, so that witnesses who know nothing of Hallpass can add a signature of
//! their own. Signatures of keys that the reader does not know are left alone.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{Context, SHA256};
use ring::signature::{ED25519, UnparsedPublicKey};

use crate::port::{SignatureAlgorithm, Signer, SigningFailed};

/// Longest note that is read: a checkpoint with sixteen large signatures fits many times over.
const MAX_BYTES: usize = 256 * 1024;
/// Longest key name.
const MAX_NAME_BYTES: usize = 512;
/// The signature type of Ed25519 over the note's text.
const ED25519_TYPE: u8 = 1;
/// What a signature line begins with.
const DASH: &str = "\u{2014} ";

/// The public half of a key that signs notes: `name+id+key`, as C2SP tools write it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    id: [u8; 4],
    public: [u8; 32],
}

/// A text that is not a verifier key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a verifier key: write name+id+key, of an Ed25519 key, as the broker gives it out")]
pub struct InvalidVerifierKey;

/// Why a note cannot be believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteRejected {
    /// It is not a signed note.
    #[error("it is not a signed note: {0}")]
    Malformed(&'static str),
    /// The key has not signed it.
    #[error("it is not signed by the key {name}")]
    NotSigned {
        /// Name of the key.
        name: String,
    },
    /// The key's signature does not fit the text.
    #[error("the signature by the key {name} does not fit its text")]
    WrongSignature {
        /// Name of the key.
        name: String,
    },
}

impl VerifierKey {
    /// The key `public` (32 bytes of Ed25519) under `name`.
    ///
    /// # Errors
    /// [`InvalidVerifierKey`] for a name that is empty, too long, or has spaces or a plus; for a key of another length.
    pub fn new(name: &str, public: &[u8]) -> Result<Self, InvalidVerifierKey> {
        let public = public.try_into().map_err(|_| InvalidVerifierKey)?;
        if !is_name(name) {
            return Err(InvalidVerifierKey);
        }
        Ok(Self { name: name.to_owned(), id: id_of(name, &public), public })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The text of `note`, if this key has signed it.
    ///
    /// # Errors
    /// [`NoteRejected`]; then nothing in the note is to be believed.
    pub fn open<'a>(&self, note: &'a str) -> Result<&'a str, NoteRejected> {
        let (text, signatures) = taken_apart(note)?;
        let mut known = false;
        for line in signatures.lines() {
            let (name, signature) = signature_of(line)?;
            let (id, signature) =
                signature.split_at_checked(4).ok_or(NoteRejected::Malformed("a signature is short"))?;
            if name != self.name || id != self.id {
                continue;
            }
            known = true;
            if UnparsedPublicKey::new(&ED25519, &self.public).verify(text.as_bytes(), signature).is_err() {
                return Err(NoteRejected::WrongSignature { name: self.name.clone() });
            }
        }
        if known { Ok(text) } else { Err(NoteRejected::NotSigned { name: self.name.clone() }) }
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut key = vec![ED25519_TYPE];
        key.extend_from_slice(&self.public);
        write!(f, "{}+{:08x}+{}", self.name, u32::from_be_bytes(self.id), STANDARD.encode(key))
    }
}

impl FromStr for VerifierKey {
    type Err = InvalidVerifierKey;

    fn from_str(text: &str) -> Result<Self, InvalidVerifierKey> {
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(_), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(InvalidVerifierKey);
        };
        let key = STANDARD.decode(key).map_err(|_| InvalidVerifierKey)?;
        let public = key.strip_prefix(&[ED25519_TYPE]).ok_or(InvalidVerifierKey)?;
        let key = Self::new(name, public)?;
        // The id follows from the rest: a key that was copied wrongly is noticed.
        if key.to_string() == text { Ok(key) } else { Err(InvalidVerifierKey) }
    }
}

/// Signs `text`, which ends with a newline, as `name`. Answers the note.
///
/// # Errors
/// [`SigningFailed`] when the key cannot sign now, is not an Ed25519 key, or cannot be called so.
pub fn sign(text: &str, name: &str, signer: &dyn Signer) -> Result<String, SigningFailed> {
    if signer.algorithm() != SignatureAlgorithm::EdDsa {
        return Err(SigningFailed);
    }
    let key = VerifierKey::new(name, signer.public_key()).map_err(|InvalidVerifierKey| SigningFailed)?;
    let mut signature = key.id.to_vec();
    signature.extend_from_slice(&signer.sign(text.as_bytes())?);
    Ok(format!("{text}\n{DASH}{name} {}\n", STANDARD.encode(signature)))
}

/// Which keys a note says it is signed by, as `name+id`: nothing of it is verified. At most sixteen.
#[must_use]
pub fn unverified_signers(note: &str) -> Vec<String> {
    const MAX: usize = 16;
    let Ok((_, signatures)) = taken_apart(note) else { return Vec::new() };
    let signer = |line| {
        let (name, signature) = signature_of(line).ok()?;
        let id: [u8; 4] = signature.first_chunk().copied()?;
        Some(format!("{name}+{:08x}", u32::from_be_bytes(id)))
    };
    signatures.lines().filter_map(signer).take(MAX).collect()
}

fn id_of(name: &str, public: &[u8; 32]) -> [u8; 4] {
    let mut context = Context::new(&SHA256);
    context.update(name.as_bytes());
    context.update(&[b'\n', ED25519_TYPE]);
    context.update(public);
    let mut id = [0; 4];
    id.iter_mut().zip(context.finish().as_ref()).for_each(|(to, from)| *to = *from);
    id
}

fn is_name(text: &str) -> bool {
    let forbidden = |c: char| c.is_whitespace() || c.is_control() || c == '+';
    !text.is_empty() && text.len() <= MAX_NAME_BYTES && !text.contains(forbidden)
}

/// The text with its last newline, and the signature lines.
fn taken_apart(note: &str) -> Result<(&str, &str), NoteRejected> {
    if note.len() > MAX_BYTES {
        return Err(NoteRejected::Malformed("it is too long"));
    }
    if note.chars().any(|c| c < ' ' && c != '\n') {
        return Err(NoteRejected::Malformed("it has control characters"));
    }
    // The text may have empty lines: the signatures begin behind the last.
    let at = note.rfind("\n\n").ok_or(NoteRejected::Malformed("it has no empty line before its signatures"))?;
    let (text, rest) = note.split_at_checked(at.saturating_add(1)).ok_or(NoteRejected::Malformed("it has no text"))?;
    let signatures = rest.strip_prefix('\n').filter(|signatures| signatures.ends_with('\n'));
    Ok((text, signatures.ok_or(NoteRejected::Malformed("it has no signature"))?))
}

fn signature_of(line: &str) -> Result<(&str, Vec<u8>), NoteRejected> {
    let malformed = NoteRejected::Malformed("a line below its text is not a signature");
    let parts = line.strip_prefix(DASH).and_then(|rest| rest.split_once(' ')).filter(|(name, _)| is_name(name));
    let (name, signature) = parts.ok_or_else(|| malformed.clone())?;
    Ok((name, STANDARD.decode(signature).map_err(|_| malformed)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestSigner;

    /// Key and note of the documentation of Go's `golang.org/x/mod/sumdb/note`.
    const GO_KEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    const GO_TEXT: &str = "If you think cryptography is the answer to your problem,\n\
                           then you don't know what your problem is.\n";
    const GO_SIGNATURE: &str = "— PeterNeumann \
        x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

    #[test]
    fn a_note_of_another_implementation_is_read() {
        let key: VerifierKey = GO_KEY.parse().unwrap();
        assert_eq!((key.name(), key.to_string().as_str()), ("PeterNeumann", GO_KEY));
        let note = format!("{GO_TEXT}\n{GO_SIGNATURE}");
        assert_eq!(key.open(&note), Ok(GO_TEXT));
        let changed = note.replace("answer", "question");
        assert_eq!(key.open(&changed), Err(NoteRejected::WrongSignature { name: "PeterNeumann".to_owned() }));
        assert_eq!(unverified_signers(&changed), ["PeterNeumann+c74f20a3"], "as the key's text begins");
        assert_eq!(unverified_signers("no note"), [""; 0]);
    }

    #[test]
    fn what_was_signed_opens_with_the_key_and_nothing_else() {
        let (signer, other) = (TestSigner::new(1), TestSigner::new(2));
        let note = sign("a\n\nb\n", "example.com/log", &signer).unwrap();
        let key = VerifierKey::new("example.com/log", signer.public_key()).unwrap();
        assert_eq!(key.open(&note), Ok("a\n\nb\n"));
        let not_signed = |key: VerifierKey| {
            assert_eq!(key.open(&note), Err(NoteRejected::NotSigned { name: key.name().to_owned() }));
        };
        not_signed(VerifierKey::new("example.com/log", other.public_key()).unwrap());
        not_signed(VerifierKey::new("example.com/other", signer.public_key()).unwrap());

        // A witness adds a line below; one who forges adds one above.
        let cosigned = format!("{note}— witness.example mJirIklj\n");
        assert_eq!(key.open(&cosigned), Ok("a\n\nb\n"));
        let forged = sign("c\n", "example.com/log", &other).unwrap();
        let forged = forged.trim_end().rsplit('\n').next().unwrap();
        assert_eq!(key.open(&format!("{note}{forged}\n")), Ok("a\n\nb\n"), "an unknown id is an unknown key");
        let id_taken = format!("{note}— example.com/log {}\n", STANDARD.encode([key.id.as_slice(), &[7; 64]].concat()));
        assert!(key.open(&id_taken).is_err(), "a known key's signature must hold wherever it stands");
    }

    #[test]
    fn what_is_no_note_is_refused() {
        let signer = TestSigner::new(1);
        let key = VerifierKey::new("n", signer.public_key()).unwrap();
        let note = sign("text\n", "n", &signer).unwrap();
        let signature = note.rsplit("\n\n").next().unwrap();
        for bad in [
            String::new(),
            "text\n".to_owned(),
            "text\n\n".to_owned(),
            note.trim_end().to_owned(),
            note.replace('\u{2014}', "-"),
            note.replace("text", "te\rxt"),
            format!("text\n{signature}"),
            format!("\n{signature}"),
            "text\n\n— n AAA\n".to_owned(),
            "text\n\n— n AAAA\n".to_owned(),
            "text\n\n— n n AAAAAAAA\n".to_owned(),
            format!("{}\n{note}", "x".repeat(MAX_BYTES)),
        ] {
            assert!(key.open(&bad).is_err(), "{bad:.60?}");
        }
    }

    #[test]
    fn what_is_no_verifier_key_is_refused() {
        for bad in [
            "",
            "PeterNeumann",
            "PeterNeumann+c74f20a3",
            &GO_KEY.replace("c74f20a3", "c74f20a4"),
            &GO_KEY.replace("c74f20a3", "C74F20A3"),
            &GO_KEY.replace("PeterNeumann", "Peter Neumann"),
            &GO_KEY.replace("PeterNeumann", ""),
            &GO_KEY.replace("+AR", "+AB"),
            &format!("{GO_KEY}AAAA"),
        ] {
            assert_eq!(bad.parse::<VerifierKey>(), Err(InvalidVerifierKey), "{bad}");
        }
        assert!(VerifierKey::new("a+b", &[0; 32]).is_err());
        assert!(VerifierKey::new(&"a".repeat(MAX_NAME_BYTES + 1), &[0; 32]).is_err());
    }
}
