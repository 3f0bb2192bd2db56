//! From a query of the domain to a request in Cedar's terms.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{LazyLock, Mutex, OnceLock, PoisonError};

use cedar_policy::{Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, RestrictedExpression, Schema};
use hallpass_core::attestation::{Build, ChangeReview};
use hallpass_core::catalog::Catalog;
use hallpass_core::id::RoleName;
use hallpass_core::identity::{AttributeValue, PrincipalKind};
use hallpass_core::policy::{Action, Party, PolicyQuery, Principal, Resource, RoleFacts};
use hallpass_core::port::EvaluationError;
use hallpass_core::provenance::Provenance;
use hallpass_core::time::Timestamp;

use super::SCHEMA;
use super::claims::Claims;
use super::reads::Reads;

/// A query in Cedar's terms, with what the index needs to find the policies that can bear on it.
pub(crate) struct Prepared {
    pub(crate) request: cedar_policy::Request,
    pub(crate) entities: Entities,
    pub(crate) action: EntityUid,
    /// The principal and what it is in.
    pub(crate) principals: Vec<EntityUid>,
    /// The resource and what it is in.
    pub(crate) resources: Vec<EntityUid>,
}

/// The names that queries are written in, made once.
#[derive(Debug)]
pub(crate) struct Vocabulary {
    pub(crate) schema: Schema,
    actions: HashMap<Action, EntityUid>,
    types: Types,
    roles: HashMap<RoleName, KnownRole>,
    addresses: Addresses,
    claims: &'static Claims,
    reads: Reads,
}

#[derive(Debug)]
struct Types {
    workload: EntityTypeName,
    operator: EntityTypeName,
    agent: EntityTypeName,
    issuer: EntityTypeName,
    group: EntityTypeName,
    namespace: EntityTypeName,
    role: EntityTypeName,
    grant: EntityTypeName,
    owner: EntityTypeName,
    audit_log: EntityUid,
    broker: EntityUid,
    bundle: EntityUid,
}

/// A role of the bundle: its place, and its entity once the first query has brought its facts.
#[derive(Debug)]
struct KnownRole {
    place: Vec<EntityUid>,
    entity: OnceLock<(RoleFacts, Entity)>,
}

/// Id of the entities of which there is one.
const SINGLETON: &str = "hallpass";

impl Vocabulary {
    /// The vocabulary of the published schema with the roles of `catalog`, for policies that read no more than `reads`.
    ///
    /// # Errors
    /// What is wrong with the schema.
    pub(crate) fn new(catalog: &Catalog, reads: Reads) -> Result<Self, String> {
        static PUBLISHED: LazyLock<Result<Schema, String>> = LazyLock::new(|| {
            Schema::from_cedarschema_str(SCHEMA).map(|(schema, _)| schema).map_err(|error| error.to_string())
        });
        let schema = PUBLISHED.clone()?;
        let name = |name: &str| name.parse::<EntityTypeName>().map_err(|error| error.to_string());
        let types = Types {
            workload: name("Workload")?,
            operator: name("Operator")?,
            agent: name("Agent")?,
            issuer: name("Issuer")?,
            group: name("Group")?,
            namespace: name("Namespace")?,
            role: name("Role")?,
            grant: name("Grant")?,
            owner: name("Owner")?,
            audit_log: uid(&name("AuditLog")?, SINGLETON),
            broker: uid(&name("Broker")?, SINGLETON),
            bundle: uid(&name("Bundle")?, SINGLETON),
        };
        let action = name("Action")?;
        let actions = Action::ALL.iter().map(|known| (*known, uid(&action, known.as_str()))).collect();
        let roles = catalog.roles.keys().map(|role| {
            let known = KnownRole { place: types.place_of(role), entity: OnceLock::new() };
            (role.clone(), known)
        });
        let claims = Claims::published()?;
        Ok(Self { schema, actions, roles: roles.collect(), types, addresses: Addresses::default(), claims, reads })
    }

    /// Every action that can be asked for.
    pub(crate) fn actions(&self) -> Vec<EntityUid> {
        self.actions.values().cloned().collect()
    }

    /// `query` in Cedar's terms, conforming to the schema.
    ///
    /// # Errors
    /// [`EvaluationError`] when it cannot be written in them, and in a debug build when it does not conform.
    pub(crate) fn prepare(&self, query: &PolicyQuery) -> Result<Prepared, EvaluationError> {
        let action = self.actions.get(&query.action).ok_or_else(|| failed("the action is unknown"))?.clone();
        let (principals, principal) = self.principal(&query.principal)?;
        let (resources, resource) = self.resource(&query.resource)?;
        let of = |uids: &[EntityUid]| uids.first().cloned().ok_or_else(|| failed("an entity without a name"));
        // Built by this module from typed facts, in the types of the schema that policies were validated with. Every
        // decision of every test is held against it, so that a release need not: that would cost a tenth of a decision.
        let conforms_to = cfg!(debug_assertions).then_some(&self.schema);
        let request = cedar_policy::Request::new(
            of(&principals)?,
            action.clone(),
            of(&resources)?,
            self.context(query)?,
            conforms_to,
        )
        .map_err(failed)?;
        // The same holds of these; here a test of its own asks.
        let entities = principal.into_iter().chain(resource);
        let entities = Entities::from_entities(entities, None).map_err(failed)?;
        Ok(Prepared { request, entities, action, principals, resources })
    }

    /// The principal and what it is in.
    pub(crate) fn principals(&self, principal: &Principal) -> Vec<EntityUid> {
        let kind = match principal.kind {
            PrincipalKind::Workload => &self.types.workload,
            PrincipalKind::Operator => &self.types.operator,
            PrincipalKind::Agent => &self.types.agent,
        };
        // Issuer names hold no colon, so that two identities cannot share an id.
        let itself = uid(kind, &format!("{}:{}", principal.issuer, principal.subject));
        let issuer = uid(&self.types.issuer, principal.issuer.as_str());
        let groups = principal.groups.iter().map(|group| uid(&self.types.group, group.as_str()));
        [itself, issuer].into_iter().chain(groups).collect()
    }

    /// The resource and what it is in.
    pub(crate) fn resources(&self, resource: &Resource) -> Vec<EntityUid> {
        match resource {
            Resource::Role(facts) => self.place_of(&facts.name),
            Resource::Grant { id, role } => {
                let itself = uid(&self.types.grant, &id.to_string());
                std::iter::once(itself).chain(self.place_of(&role.name)).collect()
            }
            Resource::Owner { name } => vec![uid(&self.types.owner, name.as_str())],
            Resource::AuditLog => vec![self.types.audit_log.clone()],
            Resource::Broker => vec![self.types.broker.clone()],
            Resource::Bundle => vec![self.types.bundle.clone()],
        }
    }

    /// The entity of an action.
    pub(crate) fn action(&self, action: Action) -> Option<&EntityUid> {
        self.actions.get(&action)
    }

    /// The principal and what it is in, and its entity with those that hold its attributes.
    fn principal(&self, principal: &Principal) -> Result<(Vec<EntityUid>, Vec<Entity>), EvaluationError> {
        let principals = self.principals(principal);
        let (itself, parents) = principals.split_first().ok_or_else(|| failed("a principal without a name"))?;
        let attributes = [
            Some(("issuer".to_owned(), text(principal.issuer.as_str()))),
            Some(("kind".to_owned(), text(&principal.issuer_kind))),
            Some(("subject".to_owned(), text(&principal.subject))),
            Some(("multi_audience".to_owned(), RestrictedExpression::new_bool(principal.multi_audience))),
            principal.via_role.as_ref().map(|role| ("via_role".to_owned(), text(role.as_str()))),
        ];
        let attributes = attributes.into_iter().flatten().chain(self.claims.attributes(principal, &self.reads)?);
        let tags = principal.attributes.iter().filter(|_| self.reads.tags()).filter_map(|(name, value)| match value {
            AttributeValue::Text(value) => Some((name.clone(), text(value))),
            AttributeValue::Bool(_) | AttributeValue::Long(_) | AttributeValue::List(_) => None,
        });
        let entity =
            Entity::new_with_tags(itself.clone(), attributes, parents.iter().cloned(), tags).map_err(failed)?;
        let mut entities = self.claims.entities(principal, &self.reads)?;
        entities.push(entity);
        Ok((principals, entities))
    }

    fn resource(&self, resource: &Resource) -> Result<(Vec<EntityUid>, Option<Entity>), EvaluationError> {
        match resource {
            Resource::Role(facts) => self.role(facts),
            Resource::Grant { role, .. } => {
                let resources = self.resources(resource);
                let (itself, place) = resources.split_first().ok_or_else(|| failed("a grant without a name"))?;
                let entity = facts_entity(itself.clone(), role, place)?;
                Ok((resources, Some(entity)))
            }
            Resource::Owner { .. } | Resource::AuditLog | Resource::Broker | Resource::Bundle => {
                Ok((self.resources(resource), None))
            }
        }
    }

    fn role(&self, facts: &RoleFacts) -> Result<(Vec<EntityUid>, Option<Entity>), EvaluationError> {
        let Some(known) = self.roles.get(&facts.name) else {
            let place = self.types.place_of(&facts.name);
            let entity = role_entity(facts, &place)?;
            return Ok((place, Some(entity)));
        };
        let entity = match known.entity.get() {
            Some((kept, entity)) if kept == facts => entity.clone(),
            // Recorded facts of an earlier revision are decided as they were recorded.
            Some(_) => role_entity(facts, &known.place)?,
            None => {
                let entity = role_entity(facts, &known.place)?;
                let _first = known.entity.set((facts.clone(), entity.clone()));
                entity
            }
        };
        Ok((known.place.clone(), Some(entity)))
    }

    fn context(&self, query: &PolicyQuery) -> Result<Context, EvaluationError> {
        let context = &query.context;
        let environment = match &query.resource {
            Resource::Role(facts) | Resource::Grant { role: facts, .. } => facts.environment.as_ref(),
            Resource::Owner { .. } | Resource::AuditLog | Resource::Broker | Resource::Bundle => None,
        };
        let (hour, weekday) = hour_and_weekday(context.time);
        let required = [
            ("time", RestrictedExpression::new_long(context.time.as_secs())),
            ("hour", RestrictedExpression::new_long(hour)),
            ("weekday", RestrictedExpression::new_long(weekday)),
            ("scope", texts(&context.scope)),
            ("provenance", provenance(&context.provenance)?),
            ("binding", text(&context.binding)),
            ("approvals", texts(&context.approvals)),
            ("holder", RestrictedExpression::new_bool(context.holder)),
            ("owner_member", RestrictedExpression::new_bool(context.owner_member)),
        ];
        let optional = [
            ("purpose", context.purpose.as_deref().map(text)),
            ("ticket", context.ticket.as_deref().map(text)),
            ("task", context.task.as_deref().map(text)),
            ("ttl", context.ttl.map(|ttl| seconds(ttl.as_secs()))),
            ("environment", environment.map(|name| text(name.as_str()))),
            ("source_ip", context.source_ip.map(|address| self.addresses.expression(address))),
            ("exception", context.exception.as_deref().map(text)),
            ("actor_chain", actor_chain(&context.actor_chain)?),
            ("actor_depth", actor_depth(&context.actor_chain)),
            ("build", context.build.as_ref().map(build).transpose()?),
            ("change", context.change.as_ref().map(change).transpose()?),
            ("on_behalf_of", context.on_behalf_of.as_ref().map(party).transpose()?),
        ];
        let optional = optional.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let pairs = required.into_iter().chain(optional).map(|(name, value)| (name.to_owned(), value));
        Context::from_pairs(pairs).map_err(failed)
    }

    fn place_of(&self, role: &RoleName) -> Vec<EntityUid> {
        self.roles.get(role).map_or_else(|| self.types.place_of(role), |known| known.place.clone())
    }
}

impl Types {
    /// The role and the namespaces that hold it.
    fn place_of(&self, role: &RoleName) -> Vec<EntityUid> {
        let namespaces = role.namespaces().map(|namespace| uid(&self.namespace, namespace));
        std::iter::once(uid(&self.role, role.as_str())).chain(namespaces).collect()
    }
}

fn role_entity(facts: &RoleFacts, place: &[EntityUid]) -> Result<Entity, EvaluationError> {
    let (itself, namespaces) = place.split_first().ok_or_else(|| failed("a role without a name"))?;
    facts_entity(itself.clone(), facts, namespaces)
}

/// An entity with the facts of a role. All its ancestors are its parents: they need no entities of their own then.
fn facts_entity(itself: EntityUid, facts: &RoleFacts, ancestors: &[EntityUid]) -> Result<Entity, EvaluationError> {
    let required = [
        ("role", text(facts.name.as_str())),
        ("owner", text(facts.owner.as_str())),
        ("backend", text(&facts.backend_kind)),
        ("class", text(facts.class.as_str())),
        ("max_ttl", seconds(facts.max_ttl.as_secs())),
    ];
    let optional = [
        ("environment", facts.environment.as_ref().map(|name| name.as_str())),
        ("environment_class", facts.environment_class.as_deref()),
        ("stage", facts.stage.as_deref()),
        ("tier", facts.tier.as_deref()),
        ("target", facts.target.as_deref()),
    ];
    let optional = optional.into_iter().filter_map(|(name, value)| Some((name, text(value?))));
    let attributes = required.into_iter().chain(optional).map(|(name, value)| (name.to_owned(), value));
    Entity::new_with_tags(itself, attributes, ancestors.iter().cloned(), []).map_err(failed)
}

/// Nothing where nobody acts for another.
fn actor_chain(chain: &[Party]) -> Result<Option<RestrictedExpression>, EvaluationError> {
    if chain.is_empty() {
        return Ok(None);
    }
    let parties = chain.iter().map(party).collect::<Result<Vec<_>, _>>()?;
    Ok(Some(RestrictedExpression::new_set(parties)))
}

fn actor_depth(chain: &[Party]) -> Option<RestrictedExpression> {
    let depth = i64::try_from(chain.len()).unwrap_or(i64::MAX);
    (depth > 0).then(|| RestrictedExpression::new_long(depth))
}

fn party(party: &Party) -> Result<RestrictedExpression, EvaluationError> {
    let fields = [("issuer", party.issuer.as_str()), ("subject", party.subject.as_str())];
    RestrictedExpression::new_record(fields.map(|(name, value)| (name.to_owned(), text(value)))).map_err(failed)
}

fn build(build: &Build) -> Result<RestrictedExpression, EvaluationError> {
    let Build { attestor, builder, repository, commit, subjects } = build;
    let optional = [("repository", repository), ("commit", commit)];
    let optional = optional.into_iter().filter_map(|(name, value)| Some((name, text(value.as_deref()?))));
    let required = [("attestor", text(attestor.as_str())), ("builder", text(builder)), ("subjects", texts(subjects))];
    let fields = required.into_iter().chain(optional).map(|(name, value)| (name.to_owned(), value));
    RestrictedExpression::new_record(fields).map_err(failed)
}

fn change(change: &ChangeReview) -> Result<RestrictedExpression, EvaluationError> {
    let ChangeReview { reviewed_by, planned_by, author, approvers, plan_digest, plan_reviewed, commit, independent } =
        change;
    let reviewed_by = RestrictedExpression::new_set(reviewed_by.iter().map(|name| text(name.as_str())));
    let planned_by = planned_by.as_ref().map(|name| name.as_str());
    let optional = [
        ("planned_by", planned_by),
        ("author", author.as_deref()),
        ("plan_digest", plan_digest.as_deref()),
        ("commit", commit.as_deref()),
    ];
    let optional = optional.into_iter().filter_map(|(name, value)| Some((name, text(value?))));
    let required = [
        ("reviewed_by", reviewed_by),
        ("approvers", texts(approvers)),
        ("plan_reviewed", RestrictedExpression::new_bool(*plan_reviewed)),
        ("independent", RestrictedExpression::new_bool(*independent)),
    ];
    let fields = required.into_iter().chain(optional).map(|(name, value)| (name.to_owned(), value));
    RestrictedExpression::new_record(fields).map_err(failed)
}

fn provenance(provenance: &Provenance) -> Result<RestrictedExpression, EvaluationError> {
    // Exhaustive: a field that is added there is given to policy, or this does not compile.
    let Provenance {
        repository,
        repository_id,
        repository_owner_id,
        git_ref,
        ref_protected,
        commit,
        workflow,
        workflow_ref,
        run,
        run_attempt,
        job,
        actor,
        actor_id,
        event,
        pull_request,
        environment,
        runner,
        attestation_digests,
    } = provenance;
    let texts_by_name = [
        ("repository", repository),
        ("repository_id", repository_id),
        ("repository_owner_id", repository_owner_id),
        ("ref", git_ref),
        ("commit", commit),
        ("workflow", workflow),
        ("workflow_ref", workflow_ref),
        ("run", run),
        ("run_attempt", run_attempt),
        ("job", job),
        ("actor", actor),
        ("actor_id", actor_id),
        ("event", event),
        ("pull_request", pull_request),
        ("environment", environment),
        ("runner", runner),
    ];
    let fields = texts_by_name.into_iter().filter_map(|(name, value)| Some((name, text(value.as_deref()?))));
    let protected = ref_protected.map(|value| ("ref_protected", RestrictedExpression::new_bool(value)));
    let digests = ("attestation_digests", texts(attestation_digests));
    let fields = fields.chain(protected).chain([digests]).map(|(name, value)| (name.to_owned(), value));
    RestrictedExpression::new_record(fields).map_err(failed)
}

/// Hour of the day and day of the week in UTC; Monday is 1.
fn hour_and_weekday(at: Timestamp) -> (i64, i64) {
    let secs = at.as_secs();
    // 1970-01-01 was a Thursday.
    let weekday = (secs.div_euclid(86_400).rem_euclid(7) + 3).rem_euclid(7) + 1;
    (secs.rem_euclid(86_400) / 3_600, weekday)
}

fn uid(kind: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
}

fn text(value: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(value.to_owned())
}

fn texts(values: &[String]) -> RestrictedExpression {
    RestrictedExpression::new_set(values.iter().map(|value| text(value)))
}

fn seconds(value: u64) -> RestrictedExpression {
    RestrictedExpression::new_long(i64::try_from(value).unwrap_or(i64::MAX))
}

/// Addresses in Cedar's terms, the latest of them kept: Cedar parses the name of its `ip` function for each.
#[derive(Debug, Default)]
struct Addresses(Mutex<HashMap<IpAddr, RestrictedExpression>>);

impl Addresses {
    /// More than the sources of a busy minute, in less than a megabyte.
    const KEPT: usize = 2_048;

    fn expression(&self, address: IpAddr) -> RestrictedExpression {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= Self::KEPT && !known.contains_key(&address) {
            known.clear();
        }
        // An IPv4 peer on a dual-stack socket is that IPv4 peer: a range of policy must not miss it.
        let made = || RestrictedExpression::new_ip(address.to_canonical().to_string());
        known.entry(address).or_insert_with(made).clone()
    }
}

pub(crate) fn failed(error: impl std::fmt::Display) -> EvaluationError {
    EvaluationError(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weekdays_are_those_of_the_calendar() {
        for (day, weekday) in [("2026-01-01", 4), ("2026-01-05", 1), ("2026-01-04", 7), ("1969-12-31", 3)] {
            let at = Timestamp::parse_rfc3339(&format!("{day}T23:59:59Z")).unwrap();
            assert_eq!(hour_and_weekday(at), (23, weekday), "{day}");
        }
    }
}
