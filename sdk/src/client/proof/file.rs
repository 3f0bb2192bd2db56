//! A proof in a file, which is read again each time.

use std::path::PathBuf;

use tokio::io::AsyncReadExt as _;
use zeroize::Zeroizing;

use super::{MAX_PROOF_BYTES, Proof, ProofContext, ProofError, ProofFuture, ProofSource};

/// A token in a file.
pub struct TokenFile {
    path: PathBuf,
    name: String,
    rotated: bool,
}

impl TokenFile {
    /// A file that nobody promises to rotate.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self { name: format!("file:{}", path.display()), path, rotated: false }
    }

    /// A projected service-account token: the kubelet replaces it before it expires.
    #[must_use]
    pub fn kubernetes(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), name: "kubernetes".to_owned(), rotated: true }
    }

    async fn read(&self) -> Result<Proof, ProofError> {
        let failed = |source| ProofError::File { path: self.path.clone(), source };
        let file = tokio::fs::File::open(&self.path).await.map_err(failed)?;
        let mut text = Zeroizing::new(String::new());
        let limit = u64::try_from(MAX_PROOF_BYTES).unwrap_or(u64::MAX).saturating_add(2);
        file.take(limit).read_to_string(&mut text).await.map_err(failed)?;
        Proof::new(&text)
    }
}

impl ProofSource for TokenFile {
    fn name(&self) -> &str {
        &self.name
    }

    fn refreshable(&self) -> bool {
        self.rotated
    }

    fn fetch<'a>(&'a self, _context: &'a ProofContext<'a>) -> ProofFuture<'a> {
        Box::pin(self.read())
    }
}
