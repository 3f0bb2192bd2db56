//! What a role says of its application.
//!
//! ```toml
//! [azure]
//! client_id = "11112222-bbbb-3333-cccc-4444dddd5555"   # of an application, or of a user-assigned managed identity
//! scope = "https://vault.azure.net/.default"           # the resource, with /.default
//! ```

use hallpass_core::port::InvalidParameters;
use hallpass_core::role::Role;

use crate::backend::parameters::{Table, invalid};

/// Longest scope.
const MAX_SCOPE: usize = 255;

#[derive(Debug)]
pub(super) struct Parameters<'a> {
    pub(super) client_id: &'a str,
    pub(super) scope: &'a str,
}

impl<'a> Parameters<'a> {
    pub(super) fn read(role: &'a Role) -> Result<Self, InvalidParameters> {
        let table = Table::of(role, "azure", &["client_id", "scope"])?;
        let client_id = table.text("client_id")?.ok_or_else(|| invalid("client_id", "is missing"))?;
        if uuid::Uuid::try_parse(client_id).is_err() || client_id.len() != 36 {
            return Err(invalid("client_id", format!("{client_id:?} must be the id of an application, a UUID")));
        }
        let scope = table.text("scope")?.ok_or_else(|| invalid("scope", "is missing: the resource, with /.default"))?;
        let fits = (1..=MAX_SCOPE).contains(&scope.len()) && scope.bytes().all(|b| b.is_ascii_graphic());
        if !fits || !scope.ends_with("/.default") {
            let problem = format!("{scope:?} must be one resource with /.default: Entra gives an application no other");
            return Err(invalid("scope", problem));
        }
        Ok(Self { client_id, scope })
    }
}
