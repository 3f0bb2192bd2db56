use ring::signature::{Ed25519KeyPair, KeyPair as _};

use crate::port::{SignatureAlgorithm, Signer, SigningFailed};

/// Signs with an Ed25519 key that everybody knows. Never outside tests.
#[derive(Debug)]
pub struct TestSigner {
    pair: Ed25519KeyPair,
    key_id: String,
}

impl TestSigner {
    /// A signer with the `n`-th key.
    #[must_use]
    pub fn new(n: u8) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[n; 32]).unwrap();
        Self { pair, key_id: format!("test-key-{n}") }
    }
}

impl Signer for TestSigner {
    fn key_id(&self) -> &str {
        &self.key_id
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::EdDsa
    }

    fn public_key(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SigningFailed> {
        Ok(self.pair.sign(message).as_ref().to_vec())
    }
}
