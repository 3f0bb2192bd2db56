//! What is asked of the broker, and what it answers.

use http::HeaderMap;
use serde_json::Value;

use crate::config::ROLE;

/// A token exchange (RFC 8693 §2.1), right in every part until a test changes one.
#[derive(Clone, Debug)]
pub struct Exchange {
    pub(crate) parameters: Vec<(String, String)>,
    pub(crate) headers: Vec<(String, String)>,
}

impl Exchange {
    /// What is sent, for a client of the test's own.
    #[must_use]
    pub fn parameters(&self) -> &[(String, String)] {
        &self.parameters
    }

    /// An exchange of this proof for a credential of [`ROLE`].
    #[must_use]
    pub fn of(proof: &str) -> Self {
        let parameters = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
            ("subject_token", proof),
            ("subject_token_type", "urn:ietf:params:oauth:token-type:jwt"),
            ("audience", ROLE),
            ("purpose", "deploy build 4f2c to staging"),
        ];
        let parameters = parameters.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        Self { parameters, headers: Vec::new() }
    }

    /// The same for another role.
    #[must_use]
    pub fn role(self, role: &str) -> Self {
        self.with("audience", role)
    }

    /// The same with one parameter set.
    #[must_use]
    pub fn with(self, name: &str, value: &str) -> Self {
        self.without(name).also(name, value)
    }

    /// The same with a parameter more, whether or not it is there already.
    #[must_use]
    pub fn also(mut self, name: &str, value: &str) -> Self {
        self.parameters.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same without a parameter.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.parameters.retain(|(known, _)| known != name);
        self
    }

    /// The same with a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// An answer, read to its end.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body as text.
    pub text: String,
    /// The body as JSON; null where it is none.
    pub body: Value,
}

impl Answer {
    /// Reads an answer to a client of the test's own.
    ///
    /// # Panics
    /// When it ends early.
    pub async fn read(response: reqwest::Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.expect("the answer's body arrives");
        let body = serde_json::from_str(&text).unwrap_or_default();
        Self { status, headers, text, body }
    }

    /// A header's value; empty where there is none.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The id under which the audit log knows the request.
    #[must_use]
    pub fn request_id(&self) -> &str {
        self.header("x-request-id")
    }

    /// A member of the body as text; empty where there is none.
    #[must_use]
    pub fn text_of(&self, name: &str) -> &str {
        self.body[name].as_str().unwrap_or_default()
    }

    /// The OAuth `error`, or a problem's `code`.
    #[must_use]
    pub fn error(&self) -> &str {
        let error = self.text_of("error");
        if error.is_empty() { self.text_of("code") } else { error }
    }

    /// The token that was minted.
    ///
    /// # Panics
    /// When none was.
    #[must_use]
    #[track_caller]
    pub fn credential(&self) -> &str {
        self.assert_status(200);
        self.body["access_token"].as_str().expect("an access_token")
    }

    /// The grant behind it.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    #[track_caller]
    pub fn grant_id(&self) -> &str {
        self.body["grant_id"].as_str().or_else(|| self.body["grant"]["id"].as_str()).expect("a grant's id")
    }

    /// Asserts the status.
    ///
    /// # Panics
    /// When it is another.
    #[track_caller]
    pub fn assert_status(&self, status: u16) {
        assert_eq!(self.status, status, "{}", self.text);
    }

    /// Asserts a refusal: its status and its `error` or `code`.
    ///
    /// # Panics
    /// When it is another, or none.
    #[track_caller]
    pub fn assert_refused(&self, status: u16, error: &str) {
        assert_eq!((self.status, self.error()), (status, error), "{}", self.text);
    }
}
