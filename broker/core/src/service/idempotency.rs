//! The scope of an idempotency key: nobody else's key can meet it.

use ring::digest::{Context, SHA256};

/// SHA-256 over `parts`, each with its length.
pub(super) fn scope<'a>(parts: impl IntoIterator<Item = &'a str>) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        context.update(part.as_bytes());
    }
    let mut scope = [0_u8; 32];
    scope.iter_mut().zip(context.finish().as_ref()).for_each(|(to, from)| *to = *from);
    scope
}
