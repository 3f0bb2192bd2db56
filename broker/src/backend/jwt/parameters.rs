//! A role's table `[jwt]`.
//!
//! ```toml
//! [jwt]
//! audience = "https://api.example"         # or a list; required
//! scope = ["read", "deploy"]               # optional: what may be asked for; all of it, when nothing is asked for
//! algorithm = "EdDSA"                      # optional: instead of the backend's
//! claims = { team = "payments" }           # optional: the same in every token of the role
//! dangerous_broker_audience = true         # optional: the audience is this broker, or a backend that trusts it
//! ```

use hallpass_core::port::{InvalidParameters, IssueError, SignatureAlgorithm};
use hallpass_core::role::Role;
use serde_json::{Map, Value};

use crate::backend::parameters::{Table, invalid};

const KNOWN: [&str; 5] = ["audience", "scope", "algorithm", "claims", "dangerous_broker_audience"];

const MAX_AUDIENCES: usize = 8;
const MAX_AUDIENCE_LEN: usize = 255;
const MAX_SCOPES: usize = 64;
const MAX_SCOPE_LEN: usize = 128;
const MAX_CLAIMS: usize = 32;
const MAX_CLAIMS_LEN: usize = 4096;

/// Claims that say who, for whom, until when and by whose word. A role's static claims cannot speak of these: they come
/// from the verified identity, from the role's own keys, or from nowhere (RFC 7519 §4.1, RFC 8693 §4, RFC 9068 §2.2,
/// RFC 7800 §3.1, OpenID Connect Core §2 and §5.1, and what Hallpass adds).
const RESERVED_CLAIMS: [&str; 48] = [
    "iss",
    "sub",
    "aud",
    "exp",
    "nbf",
    "iat",
    "jti",
    "typ",
    "cnf",
    "act",
    "may_act",
    "client_id",
    "azp",
    "scope",
    "scp",
    "auth_time",
    "acr",
    "amr",
    "nonce",
    "at_hash",
    "c_hash",
    "sid",
    "sub_id",
    "sub_jwk",
    "events",
    "toe",
    "txn",
    "status",
    "email",
    "email_verified",
    "phone_number",
    "phone_number_verified",
    "preferred_username",
    "name",
    "grant_id",
    "owner",
    "role",
    "purpose",
    "plan_digest",
    "ticket",
    "repository",
    "repository_id",
    "repository_owner_id",
    "ref",
    "commit",
    "run",
    "environment",
    "hallpass",
];

/// The table, checked.
#[derive(Debug)]
pub(super) struct Parameters<'a> {
    pub(super) audience: Vec<&'a str>,
    pub(super) scope: Vec<&'a str>,
    pub(super) algorithm: Option<SignatureAlgorithm>,
    pub(super) claims: Option<&'a Map<String, Value>>,
    dangerous_broker_audience: bool,
}

impl<'a> Parameters<'a> {
    pub(super) fn read(role: &'a Role) -> Result<Self, InvalidParameters> {
        let table = Table::of(role, "jwt", &KNOWN)?;
        let parameters = Self {
            audience: table
                .text_or_texts("audience")?
                .ok_or_else(|| invalid("audience", "is missing: say whom the token is for"))?,
            scope: table.texts("scope")?.unwrap_or_default(),
            algorithm: table.text("algorithm")?.map(algorithm).transpose()?,
            claims: table.table("claims")?,
            dangerous_broker_audience: table.flag("dangerous_broker_audience")?,
        };
        if parameters.audience.is_empty() || parameters.audience.len() > MAX_AUDIENCES {
            return Err(invalid("audience", format!("must name between 1 and {MAX_AUDIENCES} audiences")));
        }
        Ok(parameters)
    }

    /// Everything that is checked once, when the bundle is loaded: what each value may be, and which audiences are not
    /// the role's to speak to.
    pub(super) fn check_audience<'r>(&self, reserved: impl Iterator<Item = &'r str>) -> Result<(), InvalidParameters> {
        for audience in &self.audience {
            let visible = audience.bytes().all(|b| b.is_ascii_graphic());
            if audience.is_empty() || audience.len() > MAX_AUDIENCE_LEN || !visible {
                let problem = format!("{audience:?} must be 1 to {MAX_AUDIENCE_LEN} visible ASCII characters");
                return Err(invalid("audience", problem));
            }
        }
        let reserved: Vec<_> = reserved.map(bare).collect();
        let taken = self.audience.iter().find(|audience| reserved.contains(&bare(audience)));
        match taken {
            // A token for this broker, or for a backend that trusts it, acts with the broker's own standing there.
            Some(audience) if !self.dangerous_broker_audience => Err(invalid(
                "audience",
                format!(
                    "{audience:?} is this broker or a backend that trusts it; name what the workload calls instead \
                     (or declare `dangerous_broker_audience = true`)"
                ),
            )),
            // Whoever else the token is for could present it here.
            Some(audience) if self.audience.len() > 1 => {
                Err(invalid("audience", format!("{audience:?} must stand alone: every audience could use the token")))
            }
            None if self.dangerous_broker_audience => Err(invalid(
                "dangerous_broker_audience",
                "is not needed: the audience is neither this broker nor a backend that trusts it",
            )),
            _ => self.check_scope().and_then(|()| self.check_claims()),
        }
    }

    fn check_scope(&self) -> Result<(), InvalidParameters> {
        if self.scope.len() > MAX_SCOPES {
            return Err(invalid("scope", format!("must have at most {MAX_SCOPES} entries")));
        }
        // RFC 6749 §3.3: scope-token = 1*( %x21 / %x23-5B / %x5D-7E ).
        let is_token = |scope: &&&str| {
            let permitted = scope.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\');
            !scope.is_empty() && scope.len() <= MAX_SCOPE_LEN && permitted
        };
        match self.scope.iter().find(|scope| !is_token(scope)) {
            Some(scope) => Err(invalid(
                "scope",
                format!("{scope:?} must be visible ASCII without space, quote and backslash, {MAX_SCOPE_LEN} at most"),
            )),
            None => Ok(()),
        }
    }

    fn check_claims(&self) -> Result<(), InvalidParameters> {
        let Some(claims) = self.claims else { return Ok(()) };
        if let Some(name) = claims.keys().find(|name| RESERVED_CLAIMS.contains(&name.as_str()) || name.is_empty()) {
            return Err(invalid(
                format!("claims.{name}"),
                "is not a role's to set: it comes from the verified identity, from the role's own keys, or from nobody",
            ));
        }
        let length = serde_json::to_vec(claims).map_or(usize::MAX, |json| json.len());
        if claims.len() > MAX_CLAIMS || length > MAX_CLAIMS_LEN {
            return Err(invalid(
                "claims",
                format!("must be at most {MAX_CLAIMS} claims of {MAX_CLAIMS_LEN} bytes in all"),
            ));
        }
        Ok(())
    }

    /// The scope of a token: what was asked for, if the role has all of it; everything, if nothing was asked for.
    pub(super) fn grant_scope(&self, asked: &[String]) -> Result<Option<String>, IssueError> {
        if let Some(beyond) = asked.iter().find(|scope| !self.scope.contains(&scope.as_str())) {
            return Err(IssueError::unfit("scope", format!("scope {beyond:?} is not one that this role gives")));
        }
        let wanted = |scope: &&&str| asked.is_empty() || asked.iter().any(|asked| asked == **scope);
        let granted: Vec<_> = self.scope.iter().filter(wanted).copied().collect();
        Ok((!granted.is_empty()).then(|| granted.join(" ")))
    }
}

/// As somebody might write the same URL who does not know that it is compared byte for byte.
fn bare(audience: &str) -> String {
    audience.trim_end_matches('/').to_ascii_lowercase()
}

/// A role whose tokens nobody could sign.
pub(super) fn invalid_algorithm(missing: SignatureAlgorithm) -> InvalidParameters {
    let name = missing.as_str();
    invalid("algorithm", format!("the broker has no {name} key: import one with `hallpass-broker keys import`"))
}

fn algorithm(name: &str) -> Result<SignatureAlgorithm, InvalidParameters> {
    SignatureAlgorithm::parse(name)
        .ok_or_else(|| invalid("algorithm", format!("{name:?} must be ES256, EdDSA or RS256")))
}
