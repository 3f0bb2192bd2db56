//! `hallpass quarantine`: stops grants from being opened or renewed, lists what is stopped, and lifts it.

use std::fmt::Write as _;

use hallpass_sdk::wire::{Duration, Page, Quarantine as Stopped, QuarantineRequest, Timestamp};

use crate::args::{Global, Quarantine, QuarantineAction, Stop};
use crate::connect;
use crate::exit::UsageError;
use crate::output::{Output, Tone, fields, printable};
use crate::selection::{described, doubt_of_commit};
use crate::whoami::list as listed;

pub(crate) async fn run(global: &Global, wanted: Quarantine, output: &Output) -> anyhow::Result<()> {
    let stopped = match wanted.action {
        QuarantineAction::Add(stop) => {
            let Stop { reason, until, length, selection } = *stop;
            let selector = selection.selector(None, None)?;
            if let Some(doubt) = doubt_of_commit(&selector) {
                output.warn(&doubt);
            }
            let client = connect::client(global)?;
            let until = end(client.now(), until, length)?;
            client.quarantine(&QuarantineRequest { selector, reason, until }).await?
        }
        QuarantineAction::List { cursor } => {
            let page = connect::client(global)?.quarantines(cursor.as_deref()).await?;
            return output.show(&page, |page| table(page, output));
        }
        QuarantineAction::Lift { id } => connect::client(global)?.lift_quarantine(&id).await?,
    };
    output.show(&stopped, |stopped| one(stopped, output))
}

/// When it ends: at the time that is said, or so long from `now`.
fn end(now: Timestamp, until: Option<Timestamp>, length: Option<Duration>) -> Result<Timestamp, UsageError> {
    if let Some(until) = until {
        return Ok(until);
    }
    let Some(length) = length else { return Err(UsageError("until when? Say --until or --for".to_owned())) };
    let millis = i64::try_from(length.as_secs()).ok().and_then(|seconds| seconds.checked_mul(1_000));
    millis
        .and_then(|millis| now.as_unix_millis().checked_add(millis))
        .and_then(|at| Timestamp::from_unix_millis(at).ok())
        .ok_or_else(|| UsageError("--for is too long: thirty days are the most".to_owned()))
}

fn table(page: &Page<Stopped>, output: &Output) -> String {
    if page.items.is_empty() {
        return "no quarantines\n".to_owned();
    }
    let rows: Vec<_> = page
        .items
        .iter()
        .map(|stopped| {
            let (tone, state) = standing(stopped);
            let [id, by, reason] = [stopped.id.as_str(), &stopped.by, &stopped.reason].map(printable);
            (tone, [id, state.to_owned(), stopped.until.to_string(), by, described(&stopped.selector), reason])
        })
        .collect();
    let mut text = output.table(["ID", "STATE", "UNTIL", "BY", "STOPS", "BECAUSE"], 1, &rows);
    if let Some(cursor) = &page.next_cursor {
        let _ = writeln!(text, "{}", output.paint(Tone::Faint, &format!("more with --cursor {}", printable(cursor))));
    }
    text
}

fn one(stopped: &Stopped, output: &Output) -> String {
    let (tone, state) = standing(stopped);
    let roles = match &stopped.roles {
        None => Some("every role, those to come included".to_owned()),
        Some(roles) => listed(roles).or_else(|| Some("none".to_owned())),
    };
    fields(&[
        ("quarantine", Some(printable(&stopped.id))),
        ("state", Some(output.paint(tone, state))),
        ("stops", Some(described(&stopped.selector))),
        ("of roles", roles),
        ("because", Some(printable(&stopped.reason))),
        ("by", Some(printable(&stopped.by))),
        ("since", Some(stopped.created_at.to_string())),
        ("until", Some(stopped.until.to_string())),
        ("lifted", stopped.lifted_at.map(|at| at.to_string())),
        ("lifted by", stopped.lifted_by.as_deref().map(printable)),
    ])
}

fn standing(stopped: &Stopped) -> (Tone, &'static str) {
    match (stopped.in_force, stopped.lifted_by.is_some()) {
        (true, _) => (Tone::Bad, "in force"),
        (false, true) => (Tone::Faint, "lifted"),
        (false, false) => (Tone::Faint, "over"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarantine_ends_when_it_is_said_or_so_long_from_now() {
        let [now, later]: [Timestamp; 2] =
            ["2026-01-31T09:00:00Z", "2026-01-31T11:30:00Z"].map(|text| text.parse().unwrap());
        assert_eq!(end(now, Some(later), None).unwrap(), later);
        assert_eq!(end(now, None, Some(Duration::from_secs(9_000))).unwrap(), later);
        assert!(end(now, None, Some(Duration::from_secs(u64::MAX))).is_err());
        assert!(end(now, None, None).is_err());
    }
}
