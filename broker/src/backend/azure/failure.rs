//! What Microsoft Entra says when it gives no token.
//! <https://learn.microsoft.com/en-us/entra/identity-platform/reference-error-codes>,
//! <https://learn.microsoft.com/en-us/entra/workload-id/workload-identity-federation>

use hallpass_core::port::{IssueError, scrubbed};
use serde::Deserialize;

use crate::backend::rest::Answered;

#[derive(Debug, Default, Deserialize)]
struct Failure {
    #[serde(default)]
    error: String,
    #[serde(default)]
    error_description: String,
    #[serde(default)]
    error_codes: Vec<u64>,
}

/// Why there is no token. Entra's own words name tenants and trace ids, and are for the operator; its code is for both.
pub(super) fn of(answered: &Answered) -> IssueError {
    let failure: Failure = answered.read().unwrap_or_default();
    let code = failure.error_codes.first().copied();
    let told = format!("{} {}: {}", answered.status, scrubbed(&failure.error), scrubbed(&failure.error_description));
    let unavailable = || IssueError::Unavailable { internal: format!("it answered {told}") };
    let detail = match (answered.status, code) {
        (_, Some(90033 | 90012)) | (429, _) => return unavailable(),
        // 408 is of something in between that waited too long: it may have passed the request on.
        (408 | 500.., _) => return IssueError::OutcomeUnknown { internal: format!("it answered {told}") },
        (_, Some(700_016)) => "the role's application is not in the tenant".to_owned(),
        (_, Some(7_000_112)) => "the role's application is disabled in the tenant".to_owned(),
        (_, Some(70_021 | 700_211 | 700_212 | 700_213)) => {
            "no federated credential of the role's application matches the broker's issuer, subject and audience".to_owned()
        }
        (_, Some(50_027 | 700_024 | 700_027 | 5_000_819)) => {
            "Entra cannot verify the broker's token: its keys cannot be fetched, its algorithm is none that Entra takes, or a clock is wrong".to_owned()
        }
        (_, Some(90_002)) => "there is no such tenant in this cloud".to_owned(),
        (_, Some(500_011)) => "the resource that the role's scope names is not in the tenant".to_owned(),
        (_, Some(70_011 | 1_002_012)) => "the role's scope is none that Entra gives an application".to_owned(),
        (_, Some(53_003)) => "a conditional access policy of the tenant lets the application in from elsewhere only".to_owned(),
        (_, Some(50_196)) => "the same request came to Entra too often; wait for some minutes".to_owned(),
        (status, None) => format!("Entra gives no token as it is asked for ({status})"),
        (_, Some(_)) => "Entra gives no token to the role's application".to_owned(),
    };
    let code = code.map(|code| format!(" (AADSTS{code})")).unwrap_or_default();
    IssueError::refused(format!("{detail}{code}")).because(told)
}
