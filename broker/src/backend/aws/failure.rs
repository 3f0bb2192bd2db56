//! What an error of AWS means for a grant. Two audiences: whoever asked hears what is wrong and who can put it right,
//! without names of the account; the log has AWS's own words.

use hallpass_core::port::IssueError;

use super::query::CallFailed;

/// What came of asking for a session. An answer without a session handed none out: only a lost answer leaves it open
/// whether there is one.
pub(super) fn of_assuming(failed: CallFailed) -> IssueError {
    let internal = failed.to_string();
    let (status, code, message) = match failed {
        CallFailed::Unsent(internal) => return IssueError::Unavailable { internal },
        CallFailed::NoAnswer(internal) => return IssueError::OutcomeUnknown { internal },
        CallFailed::Answered { status, code, message } => (status, code, message),
    };
    let refused = |detail: &str| IssueError::refused(detail).because(&internal);
    let suspended = |detail: &str| IssueError::suspended(detail).because(&internal);
    match code.as_str() {
        "AccessDenied" | "AccessDeniedException" => refused(
            "AWS does not let the broker assume the role (AccessDenied): the role's trust policy must permit it, \
             sts:TagSession and sts:SetSourceIdentity too where the role uses them",
        ),
        "MalformedPolicyDocument" | "MalformedPolicyDocumentException" => {
            refused("AWS cannot read the role's session policy (MalformedPolicyDocument)")
        }
        "PackedPolicyTooLarge" | "PackedPolicyTooLargeException" => refused(
            "the role's session policy, its policy ARNs and the session tags are together larger than AWS takes \
             (PackedPolicyTooLarge)",
        ),
        // The token is a minute old at most: the clocks differ, or the token took that long.
        "ExpiredTokenException" | "ExpiredToken" => IssueError::Unavailable { internal },
        "InvalidIdentityToken" | "InvalidIdentityTokenException" => suspended(
            "AWS does not accept the broker's token (InvalidIdentityToken): the account needs an OIDC provider for the \
             broker's public URL with the backend's audience, and must be able to fetch its keys there",
        ),
        "IDPRejectedClaim" | "IDPRejectedClaimException" => {
            suspended("AWS says that the broker's token is not valid any more (IDPRejectedClaim)")
        }
        "RegionDisabledException" | "RegionDisabled" => {
            suspended("STS is not activated in the backend's region (RegionDisabled)")
        }
        "InvalidClientTokenId" | "SignatureDoesNotMatch" | "UnrecognizedClientException" => suspended(
            "AWS does not accept the credentials that the broker itself has (it was configured with auth = \
             \"assume_role\")",
        ),
        "ValidationError" if message.contains("MaxSessionDuration") => refused(
            "the session would be longer than the AWS role's MaxSessionDuration allows: ask for a shorter `ttl`, or have \
             the AWS role and the key `duration` of the role's table [aws] agree",
        ),
        "ValidationError" if message.contains("role chaining") || message.contains("1 hour session limit") => {
            refused(CHAINED)
        }
        "ValidationError" => refused("AWS does not take what it was asked with (ValidationError)"),
        // What AWS itself says to repeat, and whatever is its own failure.
        "IDPCommunicationError"
        | "IDPCommunicationErrorException"
        | "Throttling"
        | "ThrottlingException"
        | "RequestLimitExceeded"
        | "TooManyRequestsException"
        | "RequestExpired" => IssueError::Unavailable { internal },
        _ if status >= 500 || status == 429 => IssueError::Unavailable { internal },
        // Of something in between that waited too long: it may have passed the request on.
        _ if status == 408 => IssueError::OutcomeUnknown { internal },
        _ => refused("AWS refuses the session; the audit log has the reason"),
    }
}

const CHAINED: &str = "a session that was assumed with another session's credentials (role chaining) lasts an hour at most: \
     ask for a `ttl` of 1h at most, or have the key `duration` of the role's table [aws] say \"1h\"";

/// Said where a role asks for more.
pub(super) const CHAINING: &str = "a session that was assumed with another session's credentials (role chaining) lasts \
     an hour at most, whatever the role's MaxSessionDuration says";

#[cfg(test)]
mod tests {
    use super::*;

    fn said(code: &str, message: &str) -> String {
        let failed = CallFailed::Answered { status: 400, code: code.to_owned(), message: message.to_owned() };
        of_assuming(failed).to_string()
    }

    // CASE BE-007
    #[test]
    fn a_clock_that_differs_from_awss_is_tried_again_and_no_refusal() {
        for code in ["RequestExpired", "ExpiredTokenException"] {
            let message = "Signature expired: 20260101T000000Z is now earlier than 20260101T001500Z";
            let failed = CallFailed::Answered { status: 400, code: code.to_owned(), message: message.to_owned() };
            assert!(matches!(of_assuming(failed), IssueError::Unavailable { .. }), "{code}");
        }
        let failed = CallFailed::Answered { status: 400, code: "ValidationError".to_owned(), message: String::new() };
        assert!(matches!(of_assuming(failed), IssueError::Refused { .. }), "the control: a refusal");
    }

    /// As STS words them.
    #[test]
    fn a_life_that_sts_does_not_give_is_refused_with_the_field_and_what_would_do() {
        let chained =
            "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining.";
        let chained = said("ValidationError", chained);
        assert!(chained.contains("`ttl` of 1h at most") && chained.contains("`duration`"), "{chained}");
        let longest = "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.";
        let longest = said("ValidationError", longest);
        assert!(longest.contains("shorter `ttl`") && longest.contains("MaxSessionDuration"), "{longest}");
        let other = said("ValidationError", "1 validation error detected: Value 'x' at 'roleArn' is wrong");
        assert!(!other.contains("`ttl`") && !other.contains("roleArn"), "{other}");
    }
}
