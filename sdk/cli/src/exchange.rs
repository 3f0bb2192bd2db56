//! `hallpass exchange`: a credential on standard output.

use std::fmt::Write as _;

use hallpass_sdk::wire::{CreateGrantResponse, Credential, RevokeRequest};
use serde_json::{Map, Value, json};

use crate::args::{Exchange, Format, Global};
use crate::connect;
use crate::delivery::{Delivery, Folder, delivery};
use crate::output::Output;

pub(crate) async fn run(global: &Global, exchange: Exchange, output: &Output) -> anyhow::Result<()> {
    let wanted = &exchange.wanted;
    let client = connect::client_for(global, wanted)?;
    let folder = wanted.files.as_deref().map(Folder::at).transpose()?;
    let opened = client.create_grant(&connect::request(wanted)?).await?;
    let handed = hand_over(&opened, folder, output);
    if handed.is_err() {
        // A credential that reached nobody must not live on.
        let reason = "the credential could not be handed over".to_owned();
        let _ = client.revoke(&opened.grant.id, &RevokeRequest { reason: Some(reason) }).await;
    }
    handed
}

fn hand_over(opened: &CreateGrantResponse, folder: Option<Folder>, output: &Output) -> anyhow::Result<()> {
    if output.format() == Format::Json && folder.is_none() {
        return output.json(opened);
    }
    let mut made = delivery(&opened.credential)?;
    let grant = &opened.grant;
    output.note(&format!("{} of role {} works until {}", grant.id, grant.role, grant.expires_at));
    if let Some(mut folder) = folder {
        made.place(&mut folder)?;
        match output.format() {
            Format::Human => output.text(&exports(&made))?,
            Format::Json => output.json(&json!({"grant": grant, "variables": variables(&made)}))?,
        }
        folder.keep();
        return Ok(());
    }
    if let Some(token) = token_of(&opened.credential) {
        return output.text(&format!("{token}\n"));
    }
    if made.files.is_empty() {
        return output.text(&exports(&made));
    }
    let mut text = String::new();
    for file in &made.files {
        writeln!(text, "{}", file.content.expose().trim_end())?;
    }
    output.text(&text)
}

fn token_of(credential: &Credential) -> Option<&str> {
    credential.token().map(|token| token.expose())
}

fn variables(made: &Delivery) -> Map<String, Value> {
    made.variables.iter().map(|(name, value)| ((*name).to_owned(), value.expose().into())).collect()
}

fn exports(made: &Delivery) -> String {
    made.variables
        .iter()
        .map(|(name, value)| format!("export {name}='{}'\n", value.expose().replace('\'', r"'\''")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_exported_values_back_as_they_are() {
        let credential: Credential = serde_json::from_str(
            r#"{"type": "vault_secret", "expires_at": "2026-01-31T09:00:00Z", "data": {"k": "it's $HOME"}}"#,
        )
        .unwrap();
        let script = format!("{}printf %s \"$HALLPASS_SECRET\"", exports(&delivery(&credential).unwrap()));
        let shell = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
        assert_eq!(String::from_utf8(shell.stdout).unwrap(), r#"{"k":"it's $HOME"}"#);
    }
}
