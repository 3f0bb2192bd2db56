//! Files with one token, which somebody else may renew or change: they are read each time.

use std::path::Path;

use hallpass_core::secret::Secret;
use tokio::io::AsyncReadExt as _;
use zeroize::Zeroizing;

/// Longest token in bytes: Vault's batch tokens are a few hundred, a JWT with many claims some thousand.
const MAX_TOKEN: u64 = 8 * 1024;

/// The token in `file`.
///
/// # Errors
/// Why there is none, with the file's name.
pub async fn read(file: &Path) -> Result<Secret, String> {
    let refused = |why: &str| format!("the token file {}: {why}", file.display());
    let opened = tokio::fs::File::open(file).await.map_err(|error| refused(&error.to_string()))?;
    let mut text = Zeroizing::new(Vec::with_capacity(512));
    opened.take(MAX_TOKEN + 1).read_to_end(&mut text).await.map_err(|error| refused(&error.to_string()))?;
    let token = text.trim_ascii();
    let fits = !token.is_empty() && text.len() as u64 <= MAX_TOKEN && token.iter().all(u8::is_ascii_graphic);
    let token = std::str::from_utf8(token).ok().filter(|_| fits);
    token.map(|token| Secret::new(token.to_owned())).ok_or_else(|| refused("holds no token: one line, the token alone"))
}
