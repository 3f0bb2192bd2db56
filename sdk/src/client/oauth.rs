//! The OAuth side: token exchange (RFC 8693), introspection (RFC 7662) and revocation (RFC 7009).

use super::Client;
use super::call::Call;
use super::error::Error;
use super::proof::ProofError;
use crate::wire::{Duration, Introspection, Secret, TokenResponse, grant_type, token_type};

/// What to exchange a proof for. For roles whose credential is one token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenExchange {
    /// Role wanted; RFC 8693 calls it `audience`.
    pub role: String,
    /// Why; needed unless the role has a default.
    pub purpose: Option<String>,
    /// How long; the role's default when absent.
    pub ttl: Option<Duration>,
    /// Ticket or change reference.
    pub ticket: Option<String>,
    /// Scope wanted, separated by spaces.
    pub scope: Option<String>,
    /// Token type identifier wanted.
    pub requested_token_type: Option<String>,
    /// Task of an agent that the grant belongs to.
    pub task: Option<String>,
    /// Signed statements about the change or the build behind the request, each as JSON text.
    pub attestations: Vec<String>,
    /// Whether to ask for a receipt from the audit log.
    pub receipt: bool,
}

impl Client {
    /// `POST /oauth2/token`: exchanges the proof for the role's token. A single-use proof is consumed.
    ///
    /// # Errors
    /// Any [`Error`]; a role that needs approval, or whose credential is not one token, is `invalid_target`.
    pub async fn exchange_token(&self, exchange: &TokenExchange) -> Result<TokenResponse, Error> {
        let mut fields = vec![
            ("grant_type", text(grant_type::TOKEN_EXCHANGE)),
            ("subject_token_type", text(token_type::JWT)),
            ("audience", text(&exchange.role)),
        ];
        let optional = [
            ("purpose", exchange.purpose.clone()),
            ("ttl", exchange.ttl.map(|ttl| ttl.to_string())),
            ("ticket", exchange.ticket.clone()),
            ("scope", exchange.scope.clone()),
            ("requested_token_type", exchange.requested_token_type.clone()),
            ("task", exchange.task.clone()),
            ("attestations", statements(&exchange.attestations)?),
            ("receipt", exchange.receipt.then(|| "true".to_owned())),
        ];
        fields.extend(optional.into_iter().filter_map(|(name, value)| Some((name, Secret::new(value?)))));
        let (proof, actor) = self.openers().await?;
        match actor {
            None => {}
            Some(actor) if !actor.is_token() => return Err(ProofError::NotAToken.into()),
            Some(actor) => {
                fields.push(("actor_token", text(actor.token().expose())));
                fields.push(("actor_token_type", text(token_type::JWT)));
            }
        }
        let call = Call::post(self.url(&["oauth2", "token"])?).form(fields).proof_as("subject_token").keyed();
        self.try_with(&call, &proof).await?.into()
    }

    /// `POST /oauth2/introspect`: whether a token that the broker minted works now, and what it says.
    ///
    /// # Errors
    /// Any [`Error`]. A token that does not work is an answer, no error.
    pub async fn introspect(&self, token: &Secret) -> Result<Introspection, Error> {
        let call = Call::post(self.url(&["oauth2", "introspect"])?).form(vec![("token", text(token.expose()))]);
        self.answer(call).await
    }

    /// `POST /oauth2/revoke`: ends the grant behind a token that the broker minted. An unknown token is no error
    /// (RFC 7009 §2.2).
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn revoke_token(&self, token: &Secret) -> Result<(), Error> {
        let call = Call::post(self.url(&["oauth2", "revoke"])?).form(vec![("token", text(token.expose()))]);
        self.reply(call).await?.into_nothing()
    }
}

/// The parameter of `/oauth2/token` that they come in: a JSON array.
fn statements(attestations: &[String]) -> Result<Option<String>, Error> {
    if attestations.is_empty() {
        return Ok(None);
    }
    serde_json::to_string(attestations).map(Some).map_err(|error| Error::Unexpected {
        status: 0,
        reason: format!("the attestations cannot be written as JSON: {error}"),
        request_id: None,
    })
}

fn text(value: &str) -> Secret {
    Secret::new(value.to_owned())
}
