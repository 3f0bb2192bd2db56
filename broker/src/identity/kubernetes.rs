//! `kind = "kubernetes"`: bound tokens of service accounts.
//!
//! Claims: <https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/#bound-service-account-tokens>,
//! node: KEP-4193. Tokens of Secrets, which never expire and name nobody as their audience, have none of these claims and
//! are refused.

use hallpass_core::error::{Reason, Refusal};

use super::profile::{Claim, Described, Profile, conflict, text};
use crate::config::issuer::IssuerKind;

/// What a cluster says.
pub(super) static PROFILE: Profile = Profile::new(
    IssuerKind::Kubernetes,
    "kubernetes",
    "https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/#bound-service-account-tokens",
    CLAIMS,
    RUNS,
    check,
);

/// The claim that holds all others.
const OF_CLUSTER: &str = "kubernetes.io";

/// What tells its runs apart.
const RUNS: &str = "the pod's `uid` tells runs apart. A token that is bound to no pod, as `kubectl create token` makes, \
                    does not say: whoever shows one holds what any other of the service account opened with such a token.";

const CLAIMS: &[Claim] = &[
    text(&[OF_CLUSTER, "serviceaccount", "uid"], "service_account_uid")
        .always()
        .immutable()
        .fills("actor_id")
        .says("bind to this: a service account that is made anew has another"),
    text(&[OF_CLUSTER, "namespace"], "namespace")
        .always()
        .reusable()
        .says("with the service account's name; never a pattern: whoever may make namespaces chooses their names"),
    text(&[OF_CLUSTER, "serviceaccount", "name"], "service_account")
        .always()
        .reusable()
        .fills("actor")
        .says("a namespace that is made anew can have one of this name"),
    text(&[OF_CLUSTER, "pod", "name"], "pod").chosen().fills("job").says("the pod that the token is bound to"),
    text(&[OF_CLUSTER, "pod", "uid"], "pod_uid")
        .immutable()
        .fills("run")
        .says("the pod, in the record; that there is one, where only pods may"),
    text(&[OF_CLUSTER, "node", "name"], "node").reusable().fills("runner").says("where the pod runs"),
    text(&[OF_CLUSTER, "node", "uid"], "node_uid").immutable().says(
        "the node, together with pod_uid: whoever may ask for tokens of a service account can bind one without a pod to \
         any node",
    ),
];

fn check(proof: &mut Described<'_>) -> Result<(), Refusal> {
    let parts: Vec<_> = proof.subject.split(':').collect();
    let (namespace, account) = match parts.as_slice() {
        ["system", "serviceaccount", namespace, account] if !namespace.is_empty() && !account.is_empty() => {
            (*namespace, *account)
        }
        _ => {
            let detail = "`sub` is not system:serviceaccount:NAMESPACE:NAME";
            return Err(Refusal::proof(Reason::MalformedClaims, detail).about("sub"));
        }
    };
    for (said, claim) in [(namespace, "namespace"), (account, "service_account")] {
        let says = proof.text(claim).unwrap_or_default();
        if said != says {
            return Err(conflict("sub", proof.subject, claim, says));
        }
    }
    Ok(())
}
