use hallpass_core::testing::sample;

use super::*;

fn request_id() -> RequestId {
    sample::id(1)
}

/// Status and error of each reason as a refusal, on every surface.
#[test]
fn every_reason_has_a_status_on_every_surface() {
    let row = |reason: &Reason| {
        let failure: Failure =
            ServiceError::from(Refusal::new(hallpass_core::error::Step::Request, *reason, "")).into();
        let on = |surface| Told::of(&failure, surface);
        let (v1, token, oauth) = (on(Surface::V1), on(Surface::Token), on(Surface::OAuth));
        format!(
            "{:<24} v1 {}  token {} {:<24} oauth {} {}",
            reason.as_str(),
            v1.status.as_u16(),
            token.status.as_u16(),
            token.oauth,
            oauth.status.as_u16(),
            oauth.oauth
        )
    };
    let table: Vec<_> = Reason::ALL.iter().map(row).collect();
    insta::assert_snapshot!(table.join("\n"));
}

#[test]
fn what_does_not_answer_says_when_to_try_again() {
    for reason in [Reason::StoreUnavailable, Reason::BackendOutcomeUnknown, Reason::RateLimited, Reason::ClockBehind] {
        let failure = Failure::from(ServiceError::unavailable(reason, "later"));
        for surface in [Surface::V1, Surface::Token, Surface::OAuth] {
            let response = tell(&failure, surface, request_id());
            assert!(matches!(response.status().as_u16(), 429 | 503 | 504), "{reason}");
            assert_eq!(response.headers()[RETRY_AFTER], "1", "{reason}");
        }
    }
}

#[tokio::test]
async fn a_problem_says_what_where_and_under_which_id() {
    let refusal =
        Refusal::request(Reason::UnknownField, "tll", "`tll` is not a field").because("nobody else's business");
    let response = tell(&ServiceError::from(refusal).into(), Surface::V1, request_id());
    assert_eq!(response.headers()[CONTENT_TYPE], PROBLEM_JSON);
    insta::assert_json_snapshot!("problem", body(response).await);
}

#[tokio::test]
async fn an_oauth_error_keeps_to_the_characters_of_the_standard() {
    let refusal = Refusal::proof(Reason::WrongAudience, "meant for [\"https://ü.test\\\"]\n").about("aud");
    let response = tell(&ServiceError::from(refusal).into(), Surface::Token, request_id());
    insta::assert_json_snapshot!("oauth_error", body(response).await);
}

#[tokio::test]
async fn an_unknown_role_and_anothers_read_the_same() {
    let unknown = Refusal::new(hallpass_core::error::Step::Role, Reason::RoleNotAvailable, "no").about("role");
    let denied = Refusal::new(hallpass_core::error::Step::Policy, Reason::RoleNotAvailable, "no").about("role");
    for surface in [Surface::V1, Surface::Token] {
        let told = |refusal: &Refusal| tell(&ServiceError::from(refusal.clone()).into(), surface, request_id());
        let (unknown, denied) = (told(&unknown), told(&denied));
        assert_eq!(unknown.status(), denied.status());
        assert_eq!(body(unknown).await, body(denied).await);
    }
}

#[test]
fn a_challenge_names_an_error_only_where_there_was_a_proof() {
    let challenge = |reason| {
        let failure = ServiceError::from(Refusal::proof(reason, "")).into();
        tell(&failure, Surface::V1, request_id()).headers()[WWW_AUTHENTICATE].clone()
    };
    assert_eq!(challenge(Reason::ProofMissing), "Bearer realm=\"hallpass\", DPoP realm=\"hallpass\"");
    assert_eq!(challenge(Reason::PopInvalid), "DPoP realm=\"hallpass\", error=\"invalid_dpop_proof\"");
    assert_eq!(challenge(Reason::PopMismatch), "DPoP realm=\"hallpass\", error=\"invalid_token\"");
    assert_eq!(challenge(Reason::BadSignature), "Bearer realm=\"hallpass\", error=\"invalid_token\"");
}

async fn body(response: Response) -> serde_json::Value {
    let bytes = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
    serde_json::from_slice(&bytes).unwrap()
}
