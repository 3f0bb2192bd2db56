//! `hallpass-broker operator-token`: beside a running broker it asks at the control socket, without one it opens the
//! store itself.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{anyhow, bail};
use clap::Args;
use hallpass_core::entropy::Entropy;
use hallpass_core::error::ServiceError;
use hallpass_core::time::{Clock as _, Ttl};

use super::serve;
use crate::compose::{self, Broker};
use crate::keys::SystemEntropy;
use crate::runtime::clock::SystemClock;
use crate::runtime::control::{self, Answer, Command, Request};

/// What for, and how long.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Server file.
    #[arg(long, value_name = "FILE", env = "HALLPASS_CONFIG")]
    config: PathBuf,
    /// Why, in words; it is recorded.
    #[arg(long)]
    purpose: String,
    /// How long, such as `5m`; 15 minutes at most.
    #[arg(long)]
    ttl: Option<String>,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let config = serve::load(&arguments.config)?;
    let ttl = arguments.ttl.as_deref().map(Ttl::parse).transpose().map_err(|error| anyhow!("--ttl: {error}"))?;
    let foundation = serve::foundation(&config);
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy::new());
    let sealer = compose::sealer(&foundation, &entropy).await?;
    let now = SystemClock::start().now();
    let command = Command::OperatorToken { purpose: arguments.purpose.clone(), ttl: ttl.map(Ttl::as_secs) };
    let request = Request::new(command, now, sealer.as_ref());
    let token = match control::ask(&foundation.store, &request).await? {
        Some(Answer::Token(token)) => token,
        Some(Answer::Refused(why)) => bail!("the broker refused: {why}"),
        Some(Answer::Unfinished) => {
            bail!("the broker took too long; the grant that it may open is recorded, and ends by itself")
        }
        Some(Answer::Keys(_) | Answer::Request(_) | Answer::Rewrapped(_)) => {
            bail!("the broker answered something else")
        }
        None => {
            let broker = Broker::assemble(foundation, serve::beginning(&config.bundle)?).await?;
            broker.operator_token(&arguments.purpose, ttl).await.map_err(|error| anyhow!(explain(error)))?
        }
    };
    println!("{token}");
    Ok(())
}

/// What a failure is to the person at the terminal.
pub(super) fn explain(error: ServiceError) -> String {
    match error {
        ServiceError::Refused(refusal) => refusal.detail,
        ServiceError::Conflict { detail, .. }
        | ServiceError::Unavailable { detail, .. }
        | ServiceError::Backend { detail, .. } => detail,
        ServiceError::NotFound => "not found".to_owned(),
    }
}
