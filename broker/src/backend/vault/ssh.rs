//! As much of OpenSSH's formats as it takes to know when a certificate ends (PROTOCOL.certkeys of OpenSSH).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hallpass_core::time::Timestamp;

/// Whether a text is one public key, on one line.
pub(super) fn is_public_key(text: &str) -> bool {
    let mut words = text.trim_end().split(' ');
    let (kind, key) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let begins = |blob: Vec<u8>| Reader(&blob).string() == Some(kind.as_bytes());
    !text.trim_end().contains(['\n', '\r']) && !kind.contains("-cert-") && STANDARD.decode(key).is_ok_and(begins)
}

/// Until when a certificate is valid.
pub(super) fn valid_before(certificate: &str) -> Option<Timestamp> {
    let blob = STANDARD.decode(certificate.split_whitespace().nth(1)?).ok()?;
    let mut reader = Reader(&blob);
    let kind = std::str::from_utf8(reader.string()?).ok()?;
    // The parts of a public key, by its kind.
    let parts = match kind.strip_suffix("-cert-v01@openssh.com")? {
        "ssh-ed25519" => 1,
        "ssh-rsa" | "sk-ssh-ed25519" => 2,
        "sk-ecdsa-sha2-nistp256" => 3,
        kind if kind.starts_with("ecdsa-sha2-") => 2,
        _ => return None,
    };
    let _nonce = reader.string()?;
    for _ in 0..parts {
        reader.string()?;
    }
    let (_serial, _type) = (reader.number(8)?, reader.number(4)?);
    let (_key_id, _principals) = (reader.string()?, reader.string()?);
    let _valid_after = reader.number(8)?;
    // The largest number means that it does not end.
    i64::try_from(reader.number(8)?).ok().map(Timestamp::from_secs)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self, length: usize) -> Option<u64> {
        Some(self.bytes(length)?.iter().fold(0, |number, byte| (number << 8) | u64::from(*byte)))
    }

    fn string(&mut self) -> Option<&'a [u8]> {
        let length = self.number(4)?;
        self.bytes(usize::try_from(length).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by `TZ=UTC ssh-keygen -s ca -I id -n deploy -V 20260101000000:20260102000000 key.pub`.
    const CERTIFICATE: &str = include_str!("ssh/certificate.pub");
    const KEY: &str = include_str!("ssh/key.pub");

    #[test]
    fn the_end_of_a_certificate_is_read() {
        assert_eq!(valid_before(CERTIFICATE), Timestamp::parse_rfc3339("2026-01-02T00:00:00Z").ok());
        let words: Vec<_> = CERTIFICATE.split(' ').collect();
        let blob = STANDARD.decode(words[1]).unwrap();
        for length in 0..blob.len().min(200) {
            let cut = format!("{} {}", words[0], STANDARD.encode(&blob[..length]));
            assert!(valid_before(&cut).is_none_or(|at| at.as_secs() > 0), "{length}");
        }
        for none in ["", "ssh-ed25519", "ssh-ed25519-cert-v01@openssh.com !", KEY] {
            assert_eq!(valid_before(none), None, "{none}");
        }
    }

    #[test]
    fn a_public_key_is_told_from_everything_else() {
        assert!(is_public_key(KEY));
        for other in ["", "ssh-ed25519", "ssh-ed25519 AAAA", CERTIFICATE, "-----BEGIN CERTIFICATE REQUEST-----\n"] {
            assert!(!is_public_key(other), "{other}");
        }
        assert!(!is_public_key(&format!("{}\n{KEY}", KEY.trim_end())), "one key");
        assert!(!is_public_key(&KEY.replace("ssh-ed25519", "ssh-rsa")), "of the kind that it says");
    }
}
