//! What every [`IdentityVerifier`] keeps, whatever it verifies. An adapter's tests run [`all`] with closures that mint
//! tokens the way its issuer does.

use std::fmt::Write as _;

use crate::error::{Reason, Refusal, Step};
use crate::identity::{Proof, TokenType, VerifiedProof};
use crate::port::IdentityVerifier;
use crate::secret::Secret;
use crate::time::Timestamp;

/// Makes a token of a subject with a `jti`.
pub type Mint<'a> = Box<dyn Fn(&str, &str) -> String + 'a>;

/// An issuer under test: a verifier, and how its tokens are made.
pub struct Issuer<'a> {
    /// What is tested.
    pub verifier: &'a dyn IdentityVerifier,
    /// The issuer's `iss`, exactly as configured.
    pub issuer: String,
    /// A good token of `subject` with this `jti`.
    pub good: Mint<'a>,
    /// The same, signed by a key that the issuer does not publish, under a key id that it does not publish.
    pub unknown_key: Mint<'a>,
    /// The same, signed by another key under a key id that the issuer does publish.
    pub wrong_key: Mint<'a>,
    /// When it is.
    pub now: Timestamp,
}

impl std::fmt::Debug for Issuer<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issuer").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

/// A subject that no refusal may name before a signature has verified.
const MARKER: &str = "subject-that-must-not-be-echoed";

/// Runs everything here.
pub async fn all(issuer: &Issuer<'_>) {
    accepts_its_issuer_byte_for_byte(issuer);
    verified_fields_are_what_was_signed(issuer).await;
    a_changed_token_is_refused_wherever_it_was_changed(issuer).await;
    another_key_is_refused(issuer).await;
    what_is_no_token_is_refused(issuer).await;
}

/// An issuer is compared, never normalised: every near miss is somebody else.
pub fn accepts_its_issuer_byte_for_byte(issuer: &Issuer<'_>) {
    let exact = issuer.issuer.as_str();
    assert!(issuer.verifier.accepts(exact), "its own issuer");
    let near = [
        format!("{exact}/"),
        format!(" {exact}"),
        format!("{exact} "),
        format!("{exact}\0"),
        format!("{exact}#"),
        format!("{exact}?"),
        exact.to_uppercase(),
        exact.trim_end_matches('/').chars().skip(1).collect(),
        exact.replacen("https://", "http://", 1),
        exact.replacen("://", "://user@", 1),
        format!("{exact}.evil.test"),
        String::new(),
    ];
    for near in near.iter().filter(|near| near.as_str() != exact) {
        assert!(!issuer.verifier.accepts(near), "{near:?} is not {exact:?}");
    }
}

/// What comes out is what was signed, and says which configured issuer it came from.
pub async fn verified_fields_are_what_was_signed(issuer: &Issuer<'_>) {
    for (subject, jti) in [("repo:acme/app", "jti-1"), ("a:b|c ü", "jti-2")] {
        let verified = verify(issuer, &(issuer.good)(subject, jti)).await.expect("a good token");
        assert_eq!(verified.subject, subject);
        assert_eq!(verified.proof_id.as_deref(), Some(jti));
        assert_eq!(&verified.issuer, issuer.verifier.issuer());
        assert!(verified.expires_at.is_some_and(|at| at > issuer.now), "an expiry");
        assert!(!verified.audiences.is_empty(), "an audience");
        assert!(verified.key_id.is_some(), "which key verified");
    }
}

/// One character changed, anywhere in the token, and it does not verify.
pub async fn a_changed_token_is_refused_wherever_it_was_changed(issuer: &Issuer<'_>) {
    let token = (issuer.good)(MARKER, "jti-changed");
    let stride = (token.len() / 97).max(1);
    for at in (0..token.len()).step_by(stride) {
        let original = token.as_bytes()[at];
        let other = if original == b'A' { b'B' } else { b'A' };
        let mut changed = token.clone().into_bytes();
        changed[at] = other;
        let changed = String::from_utf8(changed).unwrap();
        let refusal = verify(issuer, &changed).await.expect_err("a changed token");
        is_silent(&refusal, &changed, &format!("changed at {at}"));
    }
    let (body, signature) = token.rsplit_once('.').expect("a token of parts");
    for (what, forged) in [
        ("without its signature", format!("{body}.")),
        ("without its last part", body.to_owned()),
        ("with a shorter signature", format!("{body}.{}", &signature[..signature.len() / 2])),
        ("with a doubled signature", format!("{body}.{signature}{signature}")),
        ("with a part too many", format!("{token}.{signature}")),
    ] {
        let refusal = verify(issuer, &forged).await.expect_err(what);
        is_silent(&refusal, &forged, what);
    }
}

/// A key that the issuer does not publish is not its key, whatever name it goes by.
pub async fn another_key_is_refused(issuer: &Issuer<'_>) {
    let unknown = (issuer.unknown_key)(MARKER, "jti-unknown");
    let refusal = verify(issuer, &unknown).await.expect_err("an unknown key");
    assert_eq!(refusal.reason, Reason::UnknownKid);
    is_silent(&refusal, &unknown, "unknown key");

    let wrong = (issuer.wrong_key)(MARKER, "jti-wrong");
    let refusal = verify(issuer, &wrong).await.expect_err("a wrong key");
    assert_eq!(refusal.reason, Reason::BadSignature);
    is_silent(&refusal, &wrong, "wrong key");
}

/// Text that is no token is refused, however long or strange, and never met with a panic.
pub async fn what_is_no_token_is_refused(issuer: &Issuer<'_>) {
    let long = "A".repeat(1 << 20);
    for text in ["", ".", "..", "...", "a.b.c", "e30.e30.", "e30.e30.e30", "ü.ü.ü", "\0", long.as_str()] {
        let refusal = verify(issuer, text).await.expect_err("no token");
        assert_eq!(refusal.step, Step::Proof);
    }
}

async fn verify(issuer: &Issuer<'_>, token: &str) -> Result<VerifiedProof, Refusal> {
    let proof = Proof::of_token(Secret::new(token.to_owned()), TokenType::Jwt);
    issuer.verifier.verify(&proof, issuer.now).await
}

/// Before a signature has verified, a refusal says nothing that was in the token: whoever reads it may be anybody, and
/// what was in the token may be anything.
fn is_silent(refusal: &Refusal, token: &str, what: &str) {
    assert_eq!(refusal.step, Step::Proof, "{what}");
    assert!(!refusal.signature_verified, "{what}: no signature verified");
    let mut told = refusal.detail.clone();
    let _ = write!(told, " {}", refusal.parameter.as_deref().unwrap_or_default());
    assert!(!told.contains(MARKER), "{what}: {told}");
    for part in token.split('.').filter(|part| part.len() >= 12) {
        assert!(!told.contains(&part[..12]), "{what}: {told}");
    }
}
