//! `kind = "google"`: identity tokens of Google's service accounts.
//!
//! Claims: <https://cloud.google.com/docs/authentication/token-types#id>, of virtual machines
//! <https://cloud.google.com/compute/docs/instances/verifying-instance-identity#payload>. Tokens of people have the same
//! issuer and keys, and are refused: a broker that has this kind of issuer knows people from elsewhere. The e-mail is there when it is asked for (`format=full` of the
//! metadata server, `includeEmail` of the API), and here it is wanted, since it is what tells service accounts from people.

use hallpass_core::error::{Reason, Refusal};

use super::profile::{Claim, Described, Profile, list, number, text, truth};
use crate::config::issuer::IssuerKind;

/// What Google says.
pub(super) static PROFILE: Profile = Profile::new(
    IssuerKind::Google,
    "google",
    "https://cloud.google.com/docs/authentication/token-types#id",
    CLAIMS,
    RUNS,
    check,
)
.without_proof_ids();

/// The claim of a virtual machine.
const GOOGLE: &str = "google";
const MACHINE: &str = "compute_engine";

/// What tells its runs apart.
const RUNS: &str = "the `instance_id` of a virtual machine (`format=full`) tells runs apart. Other tokens do not say: \
                    whoever shows one holds what any other of the service account opened with such a token.";

const CLAIMS: &[Claim] = &[
    text(&["sub"], "service_account_id")
        .always()
        .immutable()
        .fills("actor_id")
        .says("bind to this: the service account's number; one that is made anew has another"),
    text(&["azp"], "azp").always().reusable().says(
        "who asked for the token: the number, or by some ways of asking the e-mail, which one that is made anew can have",
    ),
    text(&["email"], "email")
        .always()
        .reusable()
        .fills("actor")
        .says("for people; a service account that is made anew can have it"),
    truth(&["email_verified"], "email_verified").always().says("always true, or the proof is refused"),
    text(&[GOOGLE, MACHINE, "instance_id"], "instance_id")
        .immutable()
        .fills("run")
        .says("one virtual machine, where only that may"),
    text(&[GOOGLE, MACHINE, "instance_name"], "instance_name")
        .reusable()
        .fills("runner")
        .says("for people; bind to instance_id"),
    text(&[GOOGLE, MACHINE, "project_id"], "project_id").immutable().says("the project that the machine is in"),
    number(&[GOOGLE, MACHINE, "project_number"], "project_number").immutable().says("the same as a number"),
    text(&[GOOGLE, MACHINE, "zone"], "zone").says("where the machine is"),
    number(&[GOOGLE, MACHINE, "instance_creation_timestamp"], "instance_creation_timestamp")
        .immutable()
        .says("when the machine was made, in seconds since 1970"),
    list(&[GOOGLE, MACHINE, "license_id"], "license_id").immutable().says("licences of the machine's images"),
];

/// What the e-mail addresses of service accounts end with.
const SERVICE_ACCOUNTS: &str = ".gserviceaccount.com";

fn check(proof: &mut Described<'_>) -> Result<(), Refusal> {
    let email = proof.text("email").unwrap_or_default();
    if proof.truth("email_verified") != Some(true) {
        let detail = "`email_verified` is not true";
        return Err(Refusal::proof(Reason::MalformedClaims, detail).about("email_verified"));
    }
    if !email.ends_with(SERVICE_ACCOUNTS) {
        let detail = format!("`email` says {email:?}, which is no service account's");
        return Err(Refusal::proof(Reason::MalformedClaims, detail).about("email"));
    }
    Ok(())
}
