//! Which policies can bear on a query, found without looking at the others.
//!
//! Cedar evaluates every policy of a set, one after the other. A policy whose scope names a principal or a resource
//! cannot hold for a query that is neither that entity nor inside it, so it is filed under those names, and a query
//! evaluates the files of its own entities and their ancestors alone. Each policy is in exactly one file per action. Within
//! a file, one that can hold for certain repositories or accounts alone is looked at only for those.
//!
//! Evaluating slices apart equals evaluating the whole: what is left out has a scope that is false, or a condition that is
//! false without an error, and that decides nothing; the rest combines by Cedar's own rule, any `forbid`, else any `permit`.
//! So it does where a policy names two ids that one query has, and is in two of its slices.

use std::collections::{BTreeSet, HashMap};

use cedar_policy::{ActionConstraint, EntityUid, Policy, PolicySet, PrincipalConstraint, ResourceConstraint};

use super::origins::{self, Place};

/// Policies by action, then resource, then principal of their scope.
#[derive(Debug, Default)]
pub(crate) struct Index {
    by_action: HashMap<EntityUid, HashMap<Scope, HashMap<Scope, File>>>,
}

/// The policies of one scope.
#[derive(Debug, Default)]
pub(crate) struct File {
    all: Vec<Policy>,
    /// Those that may hold wherever a query comes from.
    of_any: PolicySet,
    /// Those that hold for whoever has this id there, or for others that they name.
    by_origin: HashMap<Place, HashMap<String, PolicySet>>,
}

/// What one part of a policy's scope asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Scope {
    /// Anything, or anything of one type.
    Anything,
    /// One entity, or what is inside it.
    Entity(EntityUid),
}

impl Index {
    /// Files `policies` for queries of `actions`.
    ///
    /// # Errors
    /// Cedar's, for an id that repeats.
    pub(crate) fn build<'a>(actions: &[EntityUid], policies: impl Iterator<Item = &'a Policy>) -> Result<Self, String> {
        let mut index = Self::default();
        for policy in policies {
            let resource = match policy.resource_constraint() {
                ResourceConstraint::Any | ResourceConstraint::Is(_) => Scope::Anything,
                ResourceConstraint::Eq(uid) | ResourceConstraint::In(uid) | ResourceConstraint::IsIn(_, uid) => {
                    Scope::Entity(uid)
                }
            };
            let principal = match policy.principal_constraint() {
                PrincipalConstraint::Any | PrincipalConstraint::Is(_) => Scope::Anything,
                PrincipalConstraint::Eq(uid) | PrincipalConstraint::In(uid) | PrincipalConstraint::IsIn(_, uid) => {
                    Scope::Entity(uid)
                }
            };
            let origins = origins::named_by(policy);
            // The schema has no groups of actions: `in` asks for the listed ones.
            let listed = match policy.action_constraint() {
                ActionConstraint::Any => actions.to_vec(),
                ActionConstraint::Eq(uid) => vec![uid],
                ActionConstraint::In(uids) => uids,
            };
            for action in actions.iter().filter(|action| listed.contains(action)) {
                let by_resource = index.by_action.entry(action.clone()).or_default();
                let by_principal = by_resource.entry(resource.clone()).or_default();
                let file = by_principal.entry(principal.clone()).or_default();
                file.add(policy, origins.as_ref())?;
            }
        }
        Ok(index)
    }

    /// The policies that can bear on a query for `action`, by entities and ancestors of its principal and resource.
    pub(crate) fn files<'a>(
        &'a self,
        action: &EntityUid,
        principals: &'a [EntityUid],
        resources: &'a [EntityUid],
    ) -> impl Iterator<Item = &'a File> {
        self.by_action.get(action).into_iter().flat_map(move |by_resource| {
            files(by_resource, resources).flat_map(move |by_principal| files(by_principal, principals))
        })
    }
}

impl File {
    /// Every policy, whatever the circumstances of the question.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Policy> {
        self.all.iter()
    }

    /// The policies that can bear on a query that comes from `origins`.
    pub(crate) fn slices<'a>(
        &'a self,
        origins: impl Iterator<Item = (Place, &'a str)>,
    ) -> impl Iterator<Item = &'a PolicySet> {
        let of_it = origins.filter_map(|(place, id)| self.by_origin.get(&place)?.get(id));
        std::iter::once(&self.of_any).filter(|policies| !policies.is_empty()).chain(of_it)
    }

    fn add(&mut self, policy: &Policy, origins: Option<&BTreeSet<(Place, String)>>) -> Result<(), String> {
        self.all.push(policy.clone());
        let Some(origins) = origins else {
            return self.of_any.add(policy.clone()).map_err(|error| error.to_string());
        };
        for (place, id) in origins {
            let policies = self.by_origin.entry(*place).or_default().entry(id.clone()).or_default();
            policies.add(policy.clone()).map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

fn files<'a, V>(files: &'a HashMap<Scope, V>, entities: &'a [EntityUid]) -> impl Iterator<Item = &'a V> {
    let entities = entities.iter().map(|uid| Scope::Entity(uid.clone()));
    std::iter::once(Scope::Anything).chain(entities).filter_map(|scope| files.get(&scope))
}
