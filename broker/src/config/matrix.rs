//! A bundle's policies as a table that people can read: who may do what, and by which policy.
//!
//! Who: the callers of the bundle's own tests, with the claims that these give them. What: every action on every role, on
//! grants of it (the caller's own, and others'), on every owner, and on the broker itself.

use std::collections::BTreeMap;
use std::fmt;

use hallpass_core::id::{GrantId, PolicyId, RoleName};
use hallpass_core::policy::{Action, Outcome, PolicyQuery, Resource, RoleFacts};
use hallpass_core::role::Role;
use hallpass_core::time::Ttl;

use super::bundle::Bundle;

/// The table of a bundle. Its `Display` is the table.
#[derive(Debug)]
pub struct Matrix<'a> {
    bundle: &'a Bundle,
    callers: Vec<Caller<'a>>,
}

/// Somebody whom a test of the bundle is about, under the circumstances that the test gives.
#[derive(Debug)]
struct Caller<'a> {
    query: &'a PolicyQuery,
    /// What one of its tests says of the purpose; a role's own default goes first.
    purpose: Option<&'a String>,
}

impl<'a> Matrix<'a> {
    /// Everybody whom the bundle's tests know, in their order.
    #[must_use]
    pub fn of(bundle: &'a Bundle) -> Self {
        let mut callers: Vec<Caller<'_>> = Vec::new();
        for query in bundle.tests.iter().map(|test| &test.query) {
            let purpose = query.context.purpose.as_ref().filter(|_| query.action == Action::Mint);
            match callers.iter_mut().find(|caller| is_same(caller.query, query)) {
                Some(caller) => caller.purpose = caller.purpose.or(purpose),
                None => callers.push(Caller { query, purpose }),
            }
        }
        Self { bundle, callers }
    }
}

/// Whether it is the same caller, under the same circumstances.
fn is_same(one: &PolicyQuery, other: &PolicyQuery) -> bool {
    let circumstances = |query: &PolicyQuery| {
        let context = &query.context;
        let said = (context.ticket.clone(), context.task.clone(), context.scope.clone());
        (context.time, context.source_ip, context.binding.clone(), context.provenance.clone(), said)
    };
    one.principal == other.principal && circumstances(one) == circumstances(other)
}

impl fmt::Display for Matrix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "Who may do what, asked of the bundle's policies for everybody whom its tests know.\n\
             + allowed · x forbidden by a policy · . permitted by none · ! the policies cannot be evaluated\n\n\
             CALLERS\n",
        )?;
        for (caller, number) in self.callers.iter().zip(1_usize..) {
            caller.describe(number, f)?;
        }
        for role in self.bundle.catalog.roles.values() {
            let Some(facts) = self.bundle.role_facts(&role.name) else { continue };
            writeln!(f, "\nROLE {}", describe(role, &facts))?;
            let of_role = Resource::Role(facts.clone());
            let of_grant = Resource::Grant { id: GrantId::from(uuid::Uuid::nil()), role: facts };
            let rows = rows(&of_role, None).chain(rows(&of_grant, Some(true))).chain(rows(&of_grant, Some(false)));
            self.table(rows, Some(role), f)?;
        }
        for name in self.bundle.catalog.owners.keys() {
            writeln!(f, "\nOWNER {name}")?;
            self.table(rows(&Resource::Owner { name: name.clone() }, None), None, f)?;
        }
        for (title, resource) in
            [("AUDIT LOG", Resource::AuditLog), ("BROKER", Resource::Broker), ("CONFIGURATION", Resource::Bundle)]
        {
            writeln!(f, "\n{title}")?;
            self.table(rows(&resource, None), None, f)?;
        }
        Ok(())
    }
}

/// One action on one resource.
struct Row {
    title: String,
    action: Action,
    resource: Resource,
    holder: bool,
}

/// Everything that can be asked of a resource; of a grant, whether the caller is its holder.
fn rows(resource: &Resource, holder: Option<bool>) -> impl Iterator<Item = Row> {
    let whose = match holder {
        Some(true) => ", own grant",
        Some(false) => ", another's",
        None => "",
    };
    let asked = Action::ALL.iter().filter(|action| action.is_asked_of(resource));
    asked.map(move |action| Row {
        title: format!("{}{whose}", action.as_str()),
        action: *action,
        resource: resource.clone(),
        holder: holder == Some(true),
    })
}

/// Why an answer is as it is: whether it allows, by which policies, and for how long.
type Because = (bool, Vec<PolicyId>, Option<Ttl>);

impl Matrix<'_> {
    fn table(&self, rows: impl Iterator<Item = Row>, role: Option<&Role>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers: String = (1..=self.callers.len()).map(|number| format!("{number:>3}")).collect();
        writeln!(f, "  {:22}{numbers}", "")?;
        let mut because: BTreeMap<Because, Vec<String>> = BTreeMap::new();
        for row in rows {
            write!(f, "  {:22}", row.title)?;
            let mut by_answer: BTreeMap<Because, Vec<usize>> = BTreeMap::new();
            for (caller, number) in self.callers.iter().zip(1_usize..) {
                let verdict = self.bundle.policy.decide(&caller.asks(&row, role));
                let Ok(verdict) = verdict else {
                    f.write_str("  !")?;
                    continue;
                };
                let allowed = verdict.outcome == Outcome::Allow;
                f.write_str(match (allowed, verdict.determining.is_empty()) {
                    (true, _) => "  +",
                    (false, false) => "  x",
                    (false, true) => "  .",
                })?;
                if !verdict.determining.is_empty() {
                    let answer = (allowed, verdict.determining, verdict.obligations.max_ttl);
                    by_answer.entry(answer).or_default().push(number);
                }
            }
            writeln!(f)?;
            for (answer, callers) in by_answer {
                because.entry(answer).or_default().push(format!("{} {}", row.title, in_ranges(&callers)));
            }
        }
        for ((allowed, policies, max_ttl), where_) in because {
            let policies: Vec<_> = policies.iter().map(PolicyId::as_str).collect();
            let bound = max_ttl.map(|ttl| format!(", {ttl} at most")).unwrap_or_default();
            let mark = if allowed { '+' } else { 'x' };
            writeln!(f, "    {mark} {}{bound}: {}", policies.join(" and "), where_.join("; "))?;
        }
        Ok(())
    }
}

impl Caller<'_> {
    /// Its question.
    fn asks(&self, row: &Row, role: Option<&Role>) -> PolicyQuery {
        let mut query = PolicyQuery { action: row.action, resource: row.resource.clone(), ..self.query.clone() };
        let owner = match &row.resource {
            Resource::Role(facts) | Resource::Grant { role: facts, .. } => Some(&facts.owner),
            Resource::Owner { name } => Some(name),
            Resource::AuditLog | Resource::Broker | Resource::Bundle => None,
        };
        query.context.owner_member = owner.is_some_and(|owner| query.principal.groups.contains(owner));
        query.context.holder = row.holder;
        query.context.ttl = role.map(|role| role.ttl.default);
        query.context.purpose = role.and_then(|role| role.purpose.default.clone()).or(self.purpose.cloned());
        query
    }

    fn describe(&self, number: usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (principal, context) = (&self.query.principal, &self.query.context);
        writeln!(f, "{number:>4}  {} {}:{}", principal.kind.as_str(), principal.issuer, principal.subject)?;
        let groups: Vec<_> = principal.groups.iter().map(|group| group.as_str()).collect();
        let said = [
            ("of", (!groups.is_empty()).then(|| groups.join(", "))),
            ("with the token of", principal.via_role.as_ref().map(RoleName::to_string)),
            ("from", context.source_ip.map(|address| address.to_string())),
            ("bound by", (context.binding != "bearer").then(|| context.binding.clone())),
            ("ticket", context.ticket.clone()),
            ("task", context.task.clone()),
            ("at", (context.time != super::bundle::STANDARD_TIME).then(|| context.time.to_rfc3339())),
            ("with a proof for other audiences", principal.multi_audience.then(String::new)),
            ("attributes", members(&principal.attributes)),
            ("provenance", members(&context.provenance)),
        ];
        for (word, value) in said.into_iter().filter_map(|(word, value)| Some((word, value?))) {
            writeln!(f, "{}", format!("      {word} {value}").trim_end())?;
        }
        Ok(())
    }
}

/// Numbers in their order, as `1-3 5`.
fn in_ranges(numbers: &[usize]) -> String {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for &number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if last.saturating_add(1) == number => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    let shown = ranges.into_iter().map(|(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    });
    shown.collect::<Vec<_>>().join(" ")
}

/// The members that say something, as `name=value`.
fn members(value: &impl serde::Serialize) -> Option<String> {
    let serde_json::Value::Object(members) = serde_json::to_value(value).ok()? else { return None };
    let said =
        members.iter().filter(|(_, value)| !value.is_null() && value.as_array().is_none_or(|list| !list.is_empty()));
    let said: Vec<_> = said
        .map(|(name, value)| match value.as_str() {
            Some(text) => format!("{name}={text}"),
            None => format!("{name}={value}"),
        })
        .collect();
    (!said.is_empty()).then(|| said.join(" "))
}

fn describe(role: &Role, facts: &RoleFacts) -> String {
    let environment = match (&facts.environment, &facts.environment_class) {
        (Some(name), Some(class)) if name.as_str() == class => format!(", {class}"),
        (Some(name), Some(class)) => format!(", {name} ({class})"),
        _ => String::new(),
    };
    let more = [("stage", &facts.stage), ("tier", &facts.tier)];
    let more: String =
        more.into_iter().filter_map(|(name, value)| Some(format!(", {name} {}", value.as_deref()?))).collect();
    let state = role.state.as_str();
    format!(
        "{}: {state}, of {}{environment}{more}, {}, {}, {} at most",
        facts.name,
        facts.owner,
        facts.backend_kind,
        facts.class.as_str(),
        facts.max_ttl
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// What the sample lets whom do, kept beside it: a change of a policy shows here as what it changes.
    #[test]
    fn the_matrix_of_the_sample_is_the_one_that_is_kept() {
        let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/sample");
        let bundle = Bundle::load(&sample.join("bundle")).unwrap();
        let matrix = Matrix::of(&bundle).to_string();
        let kept = sample.join("matrix.txt");
        let kept = std::fs::read_to_string(kept).unwrap_or_default();
        assert!(
            kept == matrix,
            "deploy/sample/matrix.txt is not what the sample's policies say; look at what changed, then refresh it:\n\
             cargo run -- check --bundle deploy/sample/bundle --matrix > deploy/sample/matrix.txt\n\n{matrix}"
        );
    }

    #[test]
    fn a_matrix_tells_what_is_allowed_from_what_is_forbidden_and_what_nobody_permits() {
        let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/sample");
        let bundle = Bundle::load(&sample.join("bundle")).unwrap();
        let matrix = Matrix::of(&bundle);
        let text = matrix.to_string();
        let section = text.split("\nROLE ").find(|part| part.starts_with("payments/prod/deploy")).unwrap();
        let mint: Vec<_> =
            section.lines().find(|line| line.starts_with("  mint")).unwrap().split_whitespace().collect();
        assert_eq!(mint.len(), matrix.callers.len() + 1, "a mark for each caller");
        for test in &bundle.tests {
            let Resource::Role(facts) = &test.query.resource else { continue };
            if test.query.action != Action::Mint || facts.name.as_str() != "payments/prod/deploy" {
                continue;
            }
            let at = matrix.callers.iter().position(|caller| is_same(caller.query, &test.query)).unwrap();
            let expected = match (test.expect, test.determining.is_some()) {
                (Outcome::Allow, _) => "+",
                (Outcome::Deny, true) => "x",
                (Outcome::Deny, false) => ".",
            };
            assert_eq!(mint[at + 1], expected, "{}", test.name);
        }
        assert!(section.contains("    + payments-deploy-from-main, 15m at most: mint 1"), "{section}");
        assert!(section.contains("    x no-production-from-pull-requests: mint "), "{section}");
    }
}
