//! `hallpass revoke`: ends a set of grants, after showing which.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use anyhow::Context as _;
use hallpass_sdk::Client;
use hallpass_sdk::wire::{RevocationPreview, RevocationRequest, RevocationState, SelectedCount, SetRevocation};

use crate::args::{Format, Global, Revoke};
use crate::connect;
use crate::exit::{NothingMatches, UsageError};
use crate::grants;
use crate::output::{Output, Progress, Tone, fields, printable};
use crate::selection::{described, doubt_of_commit};

/// Grants of the dry run that are shown: enough to see whether it is the right set.
const SHOWN: usize = 10;
/// First wait between two looks at the progress; each is twice as long as the one before, up to the longest.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// Longest wait between two looks: a person watches.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

pub(crate) async fn run(global: &Global, wanted: Revoke, output: &Output) -> anyhow::Result<()> {
    let Revoke { reason, dry_run, yes, no_wait, allow_none, selection, since, until } = wanted;
    let selector = selection.selector(since, until)?;
    let asks = !yes && !dry_run;
    if asks && !can_ask(output) {
        let words = "nobody can be asked here whether this is what is meant: look with --dry-run, then say --yes";
        return Err(UsageError(words.to_owned()).into());
    }
    let client = connect::client(global)?;
    let request = RevocationRequest { selector, reason, dry_run, quarantine: None };
    // For programs there is one answer: what would end, or what became of it.
    let shows = dry_run || output.format() == Format::Human;
    let (mut foreseen, mut ending_already) = (0, 0);
    if shows || no_wait {
        let preview = client.preview_revocation(&request).await?;
        (foreseen, ending_already) = (preview.matched, preview.ending_already);
        if shows {
            output.show(&preview, |preview| would_end(preview, &client, &request, output))?;
        }
        if asks && !confirmed(preview.matched)? {
            anyhow::bail!("nothing is ended: the answer was not yes");
        }
    }
    let matched = if dry_run {
        foreseen
    } else {
        // Whatever was foreseen: what is opened meanwhile is to end as well.
        let begun = client.revoke_set(&request).await?;
        output.note(&format!("revocation {} holds: what is selected is treated as ended", begun.id));
        let standing = if no_wait { begun } else { followed(&client, begun, foreseen, output).await? };
        output.show(&standing, |standing| told(standing, output))?;
        standing.matched.max(foreseen)
    };
    if matched == 0 && ending_already == 0 && !allow_none {
        return Err(nothing_matches(&request).into());
    }
    Ok(())
}

/// On the worst day a misspelt name must not look like success.
fn nothing_matches(request: &RevocationRequest) -> NothingMatches {
    let mut words = format!(
        "nothing matches {}, so nothing was ended: look whether it is spelt as grants have it (hallpass grants list)",
        described(&request.selector)
    );
    if let Some(doubt) = doubt_of_commit(&request.selector) {
        let _ = write!(words, "; {doubt}");
    }
    NothingMatches(words)
}

fn can_ask(output: &Output) -> bool {
    output.format() == Format::Human && std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

fn confirmed(matched: u64) -> anyhow::Result<bool> {
    let mut stderr = std::io::stderr().lock();
    write!(stderr, "End {}, and what is opened meanwhile? Only \"yes\" goes on: ", counted(matched))?;
    stderr.flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).context("the answer cannot be read")?;
    Ok(answer.trim() == "yes")
}

/// Looks until every grant has followed.
async fn followed(
    client: &Client,
    begun: SetRevocation,
    foreseen: u64,
    output: &Output,
) -> anyhow::Result<SetRevocation> {
    let mut progress = Progress::new(output);
    let mut wait = FIRST_WAIT;
    loop {
        let standing = client.revocation(&begun.id).await.map_err(anyhow::Error::from).with_context(|| {
            format!("revocation {} holds, but how far its grants have followed cannot be read", printable(&begun.id))
        })?;
        let runs = standing.state == RevocationState::Running;
        // What it matches is known grant by grant while it runs: the dry run saw how many there would be.
        let of = if runs { standing.matched.max(foreseen) } else { standing.matched };
        let remaining = if runs { of.saturating_sub(standing.ended) } else { standing.remaining };
        let failing = match standing.failing {
            0 => String::new(),
            failing => format!(", {failing} of them failing so far"),
        };
        let words = format!("{} of {of} ended, {remaining} remaining{failing}", standing.ended);
        progress.show(standing.ended, if runs { of.max(1) } else { of }, &words);
        if !runs {
            return Ok(standing);
        }
        tokio::time::sleep(wait).await;
        wait = wait.saturating_mul(2).min(LONGEST_WAIT);
    }
}

/// What would end: how many by role, owner and state, and the newest of them.
fn would_end(preview: &RevocationPreview, client: &Client, request: &RevocationRequest, output: &Output) -> String {
    let selected = described(&request.selector);
    if preview.counts.is_empty() {
        return format!("no grants match {selected}\n");
    }
    let mut text = format!("{} would end by {selected}", counted(preview.matched));
    if preview.ending_already > 0 {
        let _ = write!(text, "; {} ending already", preview.ending_already);
    }
    text.push_str("\n\n");
    text.push_str(&counts(&preview.counts, output));
    let newest: Vec<_> = preview.grants.iter().take(SHOWN).cloned().collect();
    if !newest.is_empty() {
        text.push_str("\nthe newest of them:\n");
        text.push_str(&grants::rows(&newest, client.now(), output));
    }
    text
}

fn counts(counts: &[SelectedCount], output: &Output) -> String {
    // The broker tells environments and classes apart, which are no columns here.
    let mut alike: BTreeMap<(&str, &str, &str, bool), u64> = BTreeMap::new();
    for count in counts {
        let kind = (count.role.as_str(), count.owner.as_str(), count.state.as_str(), count.would_end);
        let sum = alike.entry(kind).or_default();
        *sum = sum.saturating_add(count.grants);
    }
    let rows: Vec<_> = alike
        .into_iter()
        .map(|((role, owner, state, would_end), grants)| {
            let (tone, becomes) = if would_end { (Tone::Bad, "would end") } else { (Tone::Faint, "ending already") };
            (tone, [becomes.to_owned(), grants.to_string(), printable(role), printable(owner), printable(state)])
        })
        .collect();
    output.table(["", "GRANTS", "ROLE", "OWNER", "STATE"], 0, &rows)
}

fn told(standing: &SetRevocation, output: &Output) -> String {
    let state = match standing.state {
        RevocationState::Running => output.paint(Tone::Waiting, "running: it holds, and its grants follow"),
        RevocationState::Completed => output.paint(Tone::Good, "completed"),
        RevocationState::Unknown => "a state that this version does not know".to_owned(),
    };
    let by_state: Vec<String> =
        standing.by_state.iter().map(|(state, count)| format!("{count} {}", printable(state))).collect();
    let receipt = match (&standing.receipt, standing.state) {
        (Some(_), _) => "signed, printed by --output json and GET /v1/revocations/{id}",
        (None, RevocationState::Running) => "not before it is completed",
        (None, _) => "not there",
    };
    fields(&[
        ("revocation", Some(printable(&standing.id))),
        ("state", Some(state)),
        ("of", Some(described(&standing.selector))),
        ("because", Some(printable(&standing.reason))),
        ("by", Some(printable(&standing.by))),
        ("since", Some(standing.created_at.to_string())),
        ("completed", standing.completed_at.map(|at| at.to_string())),
        ("matched", Some(standing.matched.to_string())),
        ("ended", Some(standing.ended.to_string())),
        ("remaining", Some(standing.remaining.to_string())),
        ("failing", Some(standing.failing.to_string()).filter(|_| standing.failing > 0)),
        ("grants are", Some(by_state.join(", ")).filter(|said| !said.is_empty())),
        ("receipt", Some(receipt.to_owned())),
    ])
}

fn counted(grants: u64) -> String {
    if grants == 1 { "1 grant".to_owned() } else { format!("{grants} grants") }
}
