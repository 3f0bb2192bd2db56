//! `hallpass-broker audit accept`.

use std::path::PathBuf;

use clap::Args;
use hallpass_core::service::Live;

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
    /// since. Recorded, too.
    #[arg(long, conflicts_with = "end_grants")]
    keep_grants: bool,
    /// End them. Without either they end where there was a checkpoint file before, and are not touched where by the record
    /// the file is new to the configuration.
    #[arg(long)]
    end_grants: bool,
}

pub(super) async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let config = serve::load(&arguments.config)?;
    let foundation = serve::foundation(&config);
    let live = match (arguments.keep_grants, arguments.end_grants) {
        (true, _) => Some(Live::Kept),
        (_, true) => Some(Live::Ended),
        (false, false) => None,
    };
    let accepted = Strongroom::accept_log(&foundation, &arguments.reason, live).await?;
    println!("the audit log is taken as it is, with {} entries; the last of them says so", accepted.entries);
    let Some(restored) = accepted.restored else {
        println!(
            "by the record the checkpoint file is new to the configuration, and nothing was put back: nothing ends"
        );
        return Ok(());
    };
    match restored.revocation {
        Some(id) => println!("what it has live is ended by revocation {id}"),
        None => println!("what it has live is kept"),
    }
    let at = restored.at.to_rfc3339();
    println!("proofs for single use that were issued before {at} are refused for minting until they expire");
    Ok(())
}
