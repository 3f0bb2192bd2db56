//! `hallpass-broker audit accept`.

use std::path::PathBuf;

use clap::Args;

use crate::cli::serve;
use crate::compose::Strongroom;

/// Which log, and why.
#[derive(Debug, Args)]
pub(in crate::cli) struct Arguments {
    /// Server file.
    #[arg(long, value_name = "FILE", env = "HALLPASS_CONFIG")]
    config: PathBuf,
    /// Why; it is recorded.
    #[arg(long)]
    reason: String,
    /// Keep the grants that this database has live, for who knows that it is no older copy, or that nothing was revoked
    /// since. Without it they end. Recorded, too.
    #[arg(long)]
    keep_grants: bool,
}

pub(super) async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let config = serve::load(&arguments.config)?;
    let foundation = serve::foundation(&config);
    let accepted = Strongroom::accept_log(&foundation, &arguments.reason, arguments.keep_grants).await?;
    println!("the audit log is taken as it is, with {} entries; the last of them says so", accepted.entries);
    match accepted.restored.revocation {
        Some(id) => println!("what it has live is ended by revocation {id}"),
        None => println!("what it has live is kept"),
    }
    let at = accepted.restored.at.to_rfc3339();
    println!("proofs for single use that were issued before {at} are refused for minting until they expire");
    Ok(())
}
