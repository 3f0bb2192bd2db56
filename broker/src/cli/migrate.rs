//! `hallpass-broker migrate`.

use std::path::Path;

use super::serve;
use crate::compose;

pub(super) async fn run(config: &Path) -> anyhow::Result<()> {
    let config = serve::load(config)?;
    println!("{}", compose::migrate(&serve::foundation(&config)).await?);
    Ok(())
}
