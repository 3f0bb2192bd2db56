//! A role's table `[vault]`.
//!
//! ```toml
//! [vault]                                       # a token of Vault's own
//! policies = ["payments-deploy"]
//! num_uses = 10                                 # as often as wanted without it
//! bound_cidrs = ["10.0.0.0/8"]                  # the token role must bind its tokens so; that is checked
//! metadata = { team = "payments" }
//! token_role = "hallpass-payments"              # the backend's without it
//! default_policy = true                         # false without it
//! ```
//!
//! ```toml
//! [vault]                                       # what a dynamic path makes
//! policies = ["payments-db"]                    # of the token that the path is asked with
//! path = "database/creds/app"
//! engine = "database"                           # only where the mount is not named after it
//! method = "GET"                                # only where it is not the engine's usual one
//! data = { common_name = "app.example.com" }    # of a path that is written
//! host = "db.example.com"                       # with `port` and `database`: the answer is a database's user
//! spares = 8                                    # the backend's without it
//! ```

use std::collections::BTreeMap;

use hallpass_core::port::InvalidParameters;
use hallpass_core::role::Role;
use ipnet::IpNet;
use reqwest::Method;
use serde_json::{Map, Value};

use crate::backend::parameters::{Table, invalid};
use crate::config::backend::vault::Engine;

const OF_ALL: [&str; 4] = ["policies", "default_policy", "token_role", "metadata"];
const OF_TOKENS: [&str; 2] = ["num_uses", "bound_cidrs"];
const OF_PATHS: [&str; 5] = ["path", "engine", "method", "data", "spares"];
const OF_DATABASES: [&str; 3] = ["host", "port", "database"];
const OF_CLUSTERS: [&str; 2] = ["server", "ca"];

/// Most policies of one token.
const MAX_POLICIES: usize = 32;
/// Most entries of a role's own metadata, and the longest of them.
const MAX_METADATA: usize = 16;
const MAX_METADATA_VALUE: usize = 256;
/// Longest path.
const MAX_PATH: usize = 512;
/// Most parents that are kept ready.
const MAX_SPARES: u64 = 64;
/// Most audiences of a token of Kubernetes, and the longest.
const MAX_AUDIENCES: usize = 8;
const MAX_AUDIENCE: usize = 255;
/// Mounts that are the server itself: what lies there is no engine's.
const OF_THE_SERVER: [&str; 4] = ["sys", "auth", "identity", "cubbyhole"];

/// The table, checked.
#[derive(Debug)]
pub(super) struct Parameters<'a> {
    pub(super) engine: Engine,
    pub(super) policies: Vec<&'a str>,
    pub(super) default_policy: bool,
    pub(super) token_role: Option<&'a str>,
    pub(super) metadata: BTreeMap<&'a str, &'a str>,
    pub(super) num_uses: Option<u64>,
    pub(super) bound_cidrs: Vec<&'a str>,
    pub(super) path: Option<&'a str>,
    pub(super) method: Method,
    pub(super) data: Option<&'a Map<String, Value>>,
    pub(super) spares: Option<usize>,
    /// Server, port and name of the database, where the role tells them.
    pub(super) database: Option<(&'a str, u16, &'a str)>,
    pub(super) server: Option<&'a str>,
    pub(super) ca: Option<&'a str>,
}

impl<'a> Parameters<'a> {
    pub(super) fn read(role: &'a Role) -> Result<Self, InvalidParameters> {
        let engine = Engine::of(&role.parameters);
        let table = Table::of(role, "vault", &known(engine.as_ref().copied().unwrap_or(Engine::Other)))?;
        let engine = engine.map_err(|unknown| invalid("engine", unknown.problem))?;
        let path = table.text("path")?;
        if let Some(path) = path {
            check_path(path, engine)?;
        }
        let token_role = table.text("token_role")?;
        if let Some(name) = token_role.filter(|name| !is_name(name)) {
            return Err(invalid("token_role", format!("{name:?} is no name: letters, digits, - _ and .")));
        }
        let data = table.table("data")?;
        for (key, why) in set_by_the_broker(engine) {
            if data.is_some_and(|data| data.contains_key(*key)) {
                return Err(invalid("data", format!("{key:?} is not the role's to say: {why}")));
            }
        }
        if let Some(audiences) = data.filter(|_| engine == Engine::Kubernetes).and_then(|data| data.get("audiences")) {
            check_audiences(audiences)?;
        }
        let method = method(&table, engine)?;
        if data.is_some() && method == Method::GET {
            return Err(invalid("data", "goes with method = \"POST\": a path that is read is sent nothing"));
        }
        Ok(Self {
            engine,
            policies: policies(&table)?,
            default_policy: table.flag("default_policy")?,
            token_role,
            metadata: metadata(&table)?,
            num_uses: whole(&table, "num_uses", 1..=u64::from(u32::MAX))?,
            bound_cidrs: bound_cidrs(&table)?,
            path,
            method,
            data,
            spares: whole(&table, "spares", 0..=MAX_SPARES)?.and_then(|spares| usize::try_from(spares).ok()),
            database: database(&table)?,
            server: table.text("server")?,
            ca: table.text("ca")?,
        })
    }

    /// Whether the caller's own key is to be certified.
    pub(super) fn takes_a_key(&self) -> bool {
        let verb = self.path.and_then(|path| path.rsplit('/').nth(1));
        matches!(self.engine, Engine::Pki | Engine::Ssh) && verb == Some("sign")
    }
}

/// The engine's mount: everything before the last two parts of the path, `db/eu/creds/app` → `db/eu`.
pub(super) fn mount_of(path: &str) -> Option<&str> {
    let (rest, _) = path.rsplit_once('/')?;
    rest.rsplit_once('/').map(|(mount, _)| mount)
}

fn known(engine: Engine) -> Vec<&'static str> {
    let mut known = OF_ALL.to_vec();
    match engine {
        Engine::Token => known.extend(OF_TOKENS),
        _ => known.extend(OF_PATHS),
    }
    match engine {
        Engine::Database => known.extend(OF_DATABASES),
        Engine::Kubernetes => known.extend(OF_CLUSTERS),
        _ => {}
    }
    // A token is what is made where no path is given; that there is one is said beside what it lacks.
    if engine == Engine::Token {
        known.extend(["path", "engine"]);
    }
    known
}

/// What a role must not give the engine, since the broker does.
fn set_by_the_broker(engine: Engine) -> &'static [(&'static str, &'static str)] {
    match engine {
        Engine::Pki => &[
            ("ttl", "the grant's life is"),
            ("not_after", "the grant's life is"),
            ("csr", "the request's own is"),
            ("format", "answers are PEM"),
        ],
        Engine::Ssh => &[("ttl", "the grant's life is"), ("public_key", "the request's own is")],
        Engine::Kubernetes => &[("ttl", "the grant's life is")],
        _ => &[],
    }
}

fn policies<'a>(table: &Table<'a>) -> Result<Vec<&'a str>, InvalidParameters> {
    let Some(policies) = table.texts("policies")? else {
        return Err(invalid("policies", "is missing: the policies of the token that is made"));
    };
    if policies.is_empty() || policies.len() > MAX_POLICIES {
        return Err(invalid("policies", format!("must be at least one policy and at most {MAX_POLICIES}")));
    }
    let nameable = |name: &str| {
        // Vault's names have lower-case letters; it would answer with another one than was asked for.
        let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.' | '/');
        (1..=128).contains(&name.len()) && name.chars().all(word)
    };
    if let Some(name) = policies.iter().find(|name| !nameable(name)) {
        return Err(invalid(
            "policies",
            format!("{name:?} is no policy's name: lower-case letters, digits, - _ . and /"),
        ));
    }
    if policies.contains(&"root") {
        return Err(invalid("policies", "\"root\" may do everything: no grant is for that"));
    }
    if policies.contains(&"default") {
        return Err(invalid("policies", "for the policy \"default\" say default_policy = true"));
    }
    Ok(policies)
}

fn metadata<'a>(table: &Table<'a>) -> Result<BTreeMap<&'a str, &'a str>, InvalidParameters> {
    let mut metadata = BTreeMap::new();
    for (name, value) in table.table("metadata")?.into_iter().flatten() {
        let Some(value) = value.as_str() else {
            return Err(invalid("metadata", format!("{name:?} must be text")));
        };
        if !is_name(name) || name.starts_with("hallpass_") {
            return Err(invalid(
                "metadata",
                format!("{name:?}: names have letters, digits, - _ and ., and hallpass_… is the broker's"),
            ));
        }
        if value.len() > MAX_METADATA_VALUE || value.chars().any(char::is_control) {
            return Err(invalid(
                "metadata",
                format!("{name:?} must be at most {MAX_METADATA_VALUE} bytes on one line"),
            ));
        }
        metadata.insert(name.as_str(), value);
    }
    if metadata.len() > MAX_METADATA {
        return Err(invalid("metadata", format!("must be at most {MAX_METADATA} entries")));
    }
    Ok(metadata)
}

fn bound_cidrs<'a>(table: &Table<'a>) -> Result<Vec<&'a str>, InvalidParameters> {
    let networks = table.texts("bound_cidrs")?.unwrap_or_default();
    match networks.iter().find(|network| network.parse::<IpNet>().is_err()) {
        Some(wrong) => Err(invalid("bound_cidrs", format!("{wrong:?} must be a network such as 10.0.0.0/8"))),
        None => Ok(networks),
    }
}

fn method(table: &Table<'_>, engine: Engine) -> Result<Method, InvalidParameters> {
    match table.text("method")? {
        Some("GET") => Ok(Method::GET),
        Some("POST") => Ok(Method::POST),
        Some(other) => Err(invalid("method", format!("{other:?} must be \"GET\" or \"POST\""))),
        None => Ok(match engine {
            Engine::Database | Engine::RabbitMq | Engine::Kv | Engine::Other | Engine::Token => Method::GET,
            Engine::Pki | Engine::Ssh | Engine::Kubernetes => Method::POST,
        }),
    }
}

fn database<'a>(table: &Table<'a>) -> Result<Option<(&'a str, u16, &'a str)>, InvalidParameters> {
    let (host, database) = (table.text("host")?, table.text("database")?);
    let port = whole(table, "port", 1..=65_535)?.and_then(|port| u16::try_from(port).ok());
    match (host, port, database) {
        (None, None, None) => Ok(None),
        (Some(host), port, Some(database)) => Ok(Some((host, port.unwrap_or(5432), database))),
        (None, _, _) => Err(invalid("host", "is missing: a database is told by `host`, `port` and `database`")),
        (Some(_), _, None) => {
            Err(invalid("database", "is missing: a database is told by `host`, `port` and `database`"))
        }
    }
}

/// Those of a token of Kubernetes: texts, each of which the cluster puts into the token as it is.
fn check_audiences(audiences: &Value) -> Result<(), InvalidParameters> {
    let wrong = |problem: String| Err(invalid("data.audiences", problem));
    let Some(audiences) = audiences.as_array().filter(|all| (1..=MAX_AUDIENCES).contains(&all.len())) else {
        return wrong(format!("must be a list of 1 to {MAX_AUDIENCES}, or left out for the cluster's own"));
    };
    // The engine splits text at commas: one of these would be two.
    let is_audience = |text: &str| {
        (1..=MAX_AUDIENCE).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic() && b != b',')
    };
    match audiences.iter().find(|audience| !audience.as_str().is_some_and(is_audience)) {
        Some(audience) => {
            wrong(format!("{audience} must be text of 1 to {MAX_AUDIENCE} characters, without blanks and commas"))
        }
        None => Ok(()),
    }
}

fn whole(table: &Table<'_>, key: &str, range: std::ops::RangeInclusive<u64>) -> Result<Option<u64>, InvalidParameters> {
    match table.whole(key)? {
        Some(number) if !range.contains(&number) => {
            Err(invalid(key, format!("must be between {} and {}", range.start(), range.end())))
        }
        number => Ok(number),
    }
}

/// A path of one engine, in which nothing means anything but itself.
fn check_path(path: &str, engine: Engine) -> Result<(), InvalidParameters> {
    let wrong = |problem: String| Err(invalid("path", problem));
    if path.is_empty() || path.len() > MAX_PATH {
        return wrong(format!("must be the path of a credential, {MAX_PATH} bytes at most"));
    }
    let parts: Vec<&str> = path.split('/').collect();
    if let Some(part) = parts.iter().find(|part| !is_part(part)) {
        return wrong(format!(
            "{part:?} is no part of a path: give it without slashes around it, of letters, digits, - _ . @ : and +"
        ));
    }
    if let Some(first) = parts.first().filter(|first| OF_THE_SERVER.contains(first)) {
        return wrong(format!("{first}/ is the server itself: a role names the path of an engine"));
    }
    let verbs: &[&str] = match engine {
        Engine::Database | Engine::RabbitMq | Engine::Kubernetes => &["creds"],
        Engine::Pki => &["issue", "sign"],
        Engine::Ssh => &["sign"],
        Engine::Kv | Engine::Other | Engine::Token => return Ok(()),
    };
    match parts.as_slice() {
        [_, .., verb, _] if verbs.contains(verb) => Ok(()),
        _ => wrong(format!("must end with {}/<role> for an engine of kind {}", verbs.join(" or "), engine.as_str())),
    }
}

fn is_part(part: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '@' | ':' | '+');
    (1..=128).contains(&part.len()) && part.chars().all(word) && part != "." && part != ".."
}

fn is_name(name: &str) -> bool {
    is_part(name) && !name.contains(['@', ':', '+'])
}

#[cfg(test)]
mod tests;
