//! What is alive at a server: users by their comments, and who else is in the same group roles.

use std::collections::BTreeSet;

use hallpass_core::port::{Belongs, InventoryItem, ItemKind};
use tokio_postgres::{Client, SimpleQueryMessage, SimpleQueryRow};

use super::failure::Failure;
use super::statement::literal;
use super::user::{Comment, PREFIX, Undoing, is_name_of};

/// Users with a comment of a broker's, and doors: whoever else may log in and is, however indirectly, in `groups`.
pub(super) async fn list(
    client: &Client,
    broker: &str,
    backend: &str,
    groups: &BTreeSet<String>,
) -> Result<Vec<InventoryItem>, Failure> {
    let literals =
        groups.iter().map(|group| literal(group)).collect::<Result<Vec<_>, _>>().map_err(Failure::refused)?;
    let among = if literals.is_empty() { "false".to_owned() } else { format!("rolname IN ({})", literals.join(", ")) };
    let query = format!(
        "WITH RECURSIVE reach(id) AS (SELECT oid FROM pg_catalog.pg_roles WHERE {among} UNION SELECT m.member FROM \
         pg_catalog.pg_auth_members m JOIN reach ON m.roleid = reach.id) SELECT r.rolname, r.oid, r.rolcanlogin AND \
         r.oid IN (SELECT id FROM reach) AND r.rolname <> CURRENT_USER, pg_catalog.shobj_description(r.oid, \
         'pg_authid') FROM pg_catalog.pg_roles r"
    );
    let rows = client.simple_query(&query).await.map_err(|error| Failure::before_commit(&error))?;
    let items = rows.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => item(row, broker, backend),
        _ => None,
    });
    Ok(items.collect())
}

fn item(row: &SimpleQueryRow, broker: &str, backend: &str) -> Option<InventoryItem> {
    let name = row.get(0)?.to_owned();
    let oid = row.get(1)?.parse().ok()?;
    let comment: Option<Comment> = row.get(3).and_then(|text| serde_json::from_str(text).ok());
    // A comment is believed only where it fits the name: otherwise anybody's user could be passed off for a grant's.
    let comment = comment.filter(|comment| name.starts_with(PREFIX) && is_name_of(&name, comment.grant));
    match comment {
        Some(comment) if comment.hallpass == broker && comment.backend == backend => {
            let undoing = Undoing::found(name.clone(), oid, comment.database, comment.reassign_owned_to);
            let (belongs, handle) = (Belongs::ToGrant(comment.grant), undoing.to_handle().ok());
            Some(InventoryItem { belongs, kind: ItemKind::Credential, name, handle })
        }
        Some(_) => Some(InventoryItem { belongs: Belongs::ToOthers, kind: ItemKind::Credential, name, handle: None }),
        None if row.get(2) == Some("t") => {
            Some(InventoryItem { belongs: Belongs::ToOthers, kind: ItemKind::Door, name, handle: None })
        }
        None => None,
    }
}
