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
}

pub(super) async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let config = serve::load(&arguments.config)?;
    let entries = Strongroom::accept_log(&serve::foundation(&config), &arguments.reason).await?;
    println!("the audit log is taken as it is, with {entries} entries; the last of them says so");
    Ok(())
}
