//! `hallpass exec`: runs a command with a credential, and takes the credential back when it ends.
//!
//! The order keeps the promise: signals are caught before the grant is opened, so that none can end this process while
//! a grant is open; the grant is revoked on every way out; and if this process is killed outright, the heartbeat that
//! no longer comes ends the grant at the broker.

mod life;
mod signals;

use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::pin::pin;
use std::process::{ExitCode, ExitStatus};
use std::time::Duration;

use hallpass_sdk::Client;
use hallpass_sdk::client::proof::PROOF_VARIABLES;
use hallpass_sdk::client::{Heartbeat, Lease, LeaseHealth};
use hallpass_sdk::wire::CreateGrant;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::args::{Exec, Global};
use crate::connect;
use crate::delivery::{Delivery, Folder, delivery};
use crate::output::Output;
use signals::{Caught, Signals};

const CANNOT_RUN: u8 = 126;
const NOT_FOUND: u8 = 127;
const PATIENCE: Duration = Duration::from_secs(20);
const PATIENCE_WHEN_INTERRUPTED: Duration = Duration::from_secs(5);

pub(crate) async fn run(global: &Global, exec: Exec, output: &Output) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::catch()?;
    let client = connect::client_for(global, &exec.wanted)?;
    let mut request = connect::request(&exec.wanted)?;
    request.ttl = life::within_proof(&client, &request, output).await?;
    let lease = match open(&client, request, Heartbeat::within(exec.heartbeat), &mut signals).await? {
        Opened::Lease(lease) => lease,
        Opened::Interrupted(signal) => return Ok(signal.exit_status().into()),
    };

    let ended = run_with(&lease, &exec, &proof_variables(&client), &mut signals, output).await;

    close(lease, &mut signals, output).await;
    ended.map(ExitCode::from)
}

enum Opened {
    Lease(Box<Lease>),
    Interrupted(Caught),
}

/// Opens the lease, unless a signal comes first. The answer may be on its way then: it is awaited a little, so that a
/// grant that was opened is ended at once and not only when its heartbeat is missed.
async fn open(
    client: &Client,
    request: CreateGrant,
    heartbeat: Heartbeat,
    signals: &mut Signals,
) -> anyhow::Result<Opened> {
    let mut opening = pin!(client.open_lease(request, heartbeat));
    let signal = tokio::select! {
        lease = &mut opening => return Ok(Opened::Lease(Box::new(lease?))),
        signal = signals.next() => signal,
    };
    if let Ok(Ok(lease)) = timeout(PATIENCE_WHEN_INTERRUPTED, opening).await {
        // What cannot be revoked now ends without its heartbeat.
        let _ = timeout(PATIENCE_WHEN_INTERRUPTED, lease.close("interrupted before the command ran")).await;
    }
    Ok(Opened::Interrupted(signal))
}

/// Ends the grant; a broker that is away, or a further signal, does not hold up the command's exit status for long.
async fn close(lease: Box<Lease>, signals: &mut Signals, output: &Output) {
    let id = lease.grant().id.clone();
    let why_not = tokio::select! {
        closed = timeout(PATIENCE, lease.close("the command ended")) => match closed {
            Ok(Ok(_)) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        },
        _ = signals.next() => "interrupted".to_owned(),
    };
    output.warn(&format!("grant {id} could not be revoked and ends without its heartbeat: {why_not}"));
}

/// Variables that the command must not inherit: with a proof it could ask for more than it was given.
fn proof_variables(client: &Client) -> Vec<String> {
    let mut names = client.proof_variables();
    names.extend(PROOF_VARIABLES.map(str::to_owned));
    names
}

async fn run_with(
    lease: &Lease,
    exec: &Exec,
    without: &[String],
    signals: &mut Signals,
    output: &Output,
) -> anyhow::Result<u8> {
    let mut made = delivery(lease.credential())?;
    let mut folder = match (&exec.wanted.files, made.files.is_empty()) {
        (Some(path), _) => Some(Folder::at(path)?),
        (None, false) => Some(Folder::temporary()?),
        (None, true) => None,
    };
    if let Some(folder) = &mut folder {
        made.place(folder)?;
    }
    made.describe(lease.grant());
    if let Some(signal) = signals.already_caught() {
        return Ok(signal.exit_status());
    }
    let mut child = match spawn(&exec.command, &made, without) {
        Ok(child) => child,
        Err(error) => {
            output.warn(&format!("the command cannot be run: {error}"));
            return Ok(if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { CANNOT_RUN });
        }
    };
    // The child has its copy; the folder lives until it ends.
    drop(made);
    Ok(exit_status(attend(&mut child, lease, exec.kill_on_end, signals, output).await?))
}

fn spawn(command: &[OsString], made: &Delivery, without: &[String]) -> io::Result<Child> {
    let (program, arguments) =
        command.split_first().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no command"))?;
    let mut command = Command::new(program);
    command.args(arguments);
    for name in without {
        command.env_remove(name);
    }
    for (name, value) in &made.variables {
        command.env(name, value.expose());
    }
    command.spawn()
}

/// Waits for the command to end, passes signals on and tells when the grant ends before it.
async fn attend(
    child: &mut Child,
    lease: &Lease,
    kill_on_end: bool,
    signals: &mut Signals,
    output: &Output,
) -> io::Result<ExitStatus> {
    let mut health = lease.health();
    let mut told = true;
    loop {
        tokio::select! {
            status = child.wait() => return status,
            signal = signals.next() => {
                if !signal.terminal_has_sent_it() {
                    pass_on(child, signal);
                }
            }
            changed = health.changed(), if told => {
                // The sender is gone once it told of the end.
                told = changed.is_ok();
                if told {
                    let now = health.borrow_and_update().clone();
                    report(&now, lease, output);
                    if kill_on_end && matches!(now, LeaseHealth::Ended { .. }) {
                        pass_on(child, Caught::TERMINATE);
                    }
                }
            }
        }
    }
}

fn pass_on(child: &Child, signal: Caught) {
    // No id: the child has ended and was waited for, so its number may be another's by now.
    if let Some(id) = child.id() {
        signal.send_to(id);
    }
}

fn report(health: &LeaseHealth, lease: &Lease, output: &Output) {
    let id = &lease.grant().id;
    match health {
        LeaseHealth::Live => output.warn(&format!("the heartbeat of grant {id} is through again")),
        LeaseHealth::Unconfirmed(reason) => {
            output.warn(&format!("the heartbeat of grant {id} did not get through, it may end: {reason}"));
        }
        LeaseHealth::Ended { state, cause } => {
            let cause = cause.as_deref().unwrap_or("no cause given");
            output.warn(&format!(
                "grant {id} has ended while the command runs ({}: {cause}); its credential works no longer, or not \
                 for long",
                state.as_str()
            ));
        }
    }
}

fn exit_status(status: ExitStatus) -> u8 {
    match (status.code(), status.signal()) {
        (Some(code), _) => u8::try_from(code).unwrap_or(u8::MAX),
        (None, Some(signal)) => u8::try_from(signal).map_or(u8::MAX, |signal| signal.saturating_add(128)),
        (None, None) => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_status_is_the_commands_or_the_signals() {
        assert_eq!(exit_status(ExitStatus::from_raw(0)), 0);
        assert_eq!(exit_status(ExitStatus::from_raw(7 << 8)), 7);
        assert_eq!(exit_status(ExitStatus::from_raw(15)), 143);
        assert_eq!(exit_status(ExitStatus::from_raw(9)), 137);
    }
}
