//! `hallpass-broker keys rewrap`: beside a running broker the new wrapping is made here, by the server file as it is now,
//! and handed over; the broker goes on with the data key that it holds.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use hallpass_core::audit::Actor;
use hallpass_core::entropy::Entropy;
use hallpass_core::port::{DataKeyId, Wrapping};
use hallpass_core::time::Clock as _;

use crate::cli::serve;
use crate::compose::{self, Rewrapping, Strongroom};
use crate::keys::{DataKeyKeeper, Rewrapped, SystemEntropy};
use crate::runtime::clock::SystemClock;
use crate::runtime::control::{self, Answer, Command, Request, WrappedKey};

/// How.
#[derive(Debug, Args)]
pub(in crate::cli) struct Arguments {
    /// Server file.
    #[arg(long, value_name = "FILE", env = "HALLPASS_CONFIG")]
    config: PathBuf,
    /// Make a new data key too, and seal every value anew under it: after the old key-encryption key was in wrong hands.
    /// The broker must be stopped.
    #[arg(long)]
    new_data_key: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let config = serve::load(&arguments.config)?;
    let foundation = serve::foundation(&config);
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy::new());
    let rewrapping = if arguments.new_data_key { None } else { compose::rewrapping(&foundation, &entropy).await? };
    if let Some(Rewrapping { sealer, data_key, read, wrapping }) = rewrapping {
        let told = |Wrapping { kek, version, wrapped }| WrappedKey { kek, version, wrapped: STANDARD.encode(wrapped) };
        let command = Command::Rewrap { data_key, read: told(read), wrapping: wrapping.map(told) };
        let request = Request::new(command, SystemClock::start().now(), sealer.as_ref());
        match control::ask(&foundation.store, &request).await? {
            Some(Answer::Rewrapped(rewrapped)) => return show(&rewrapped, arguments.json),
            Some(Answer::Refused(why)) => bail!("the broker refused: {why}"),
            Some(Answer::Unfinished) => {
                bail!("the broker takes its time, and goes on; ask again what the data key is wrapped by")
            }
            Some(Answer::Token(_) | Answer::Keys(_) | Answer::Request(_)) => {
                bail!("the broker answered something else")
            }
            None => {}
        }
    }
    let room = Strongroom::open(&foundation).await?;
    show(&room.rewrap(arguments.new_data_key).await?, arguments.json)
}

/// Has the data key `id` kept in the wrapping that somebody who can unwrap it made.
pub(in crate::cli) async fn take_over(
    keeper: &DataKeyKeeper,
    id: &str,
    read: WrappedKey,
    wrapping: Option<WrappedKey>,
) -> anyhow::Result<Rewrapped> {
    let bytes = u64::from_str_radix(id, 16).context("this is no id of a data key")?.to_be_bytes();
    let heard = |WrappedKey { kek, version, wrapped }| {
        let wrapped = STANDARD.decode(wrapped).context("the wrapped key is no base64")?;
        anyhow::Ok(Wrapping { kek, version, wrapped })
    };
    let (read, wrapping) = (heard(read)?, wrapping.map(heard).transpose()?);
    Ok(keeper.take_over(DataKeyId(bytes), &read, wrapping, Actor::LocalAdministrator).await?)
}

fn show(rewrapped: &Rewrapped, json: bool) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string(rewrapped)?);
        return Ok(());
    }
    let Rewrapped { data_key, kek, version, changed, sealed_anew } = rewrapped;
    let now = if *changed { "is now" } else { "was already" };
    println!("data key {data_key} {now} wrapped by {kek}, version {version}; {sealed_anew} values were sealed anew");
    Ok(())
}
