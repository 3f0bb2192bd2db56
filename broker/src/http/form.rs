//! Parameters: forms of `/oauth2` and queries, decoded strictly.

use super::failure::Unreadable;

/// Named values as they were sent, in order. What is taken is removed, so that the rest is what nobody knows.
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// Decodes `application/x-www-form-urlencoded`, at most `max` parameters. One without a value counts as absent
    /// (RFC 6749 §3.1).
    pub(super) fn parse(text: &[u8], max: usize) -> Result<Self, Unreadable> {
        let mut parameters = Vec::new();
        for pair in text.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
            if parameters.len() >= max {
                return Err(Unreadable::syntax("body", format!("there are more than {max} parameters")));
            }
            let mut halves = pair.splitn(2, |byte| *byte == b'=');
            let (name, value) = (halves.next().unwrap_or_default(), halves.next().unwrap_or_default());
            let (Some(name), Some(value)) = (decoded(name), decoded(value)) else {
                return Err(Unreadable::syntax("body", "a parameter is not percent-encoded UTF-8"));
            };
            parameters.push((name, value));
        }
        Ok(Self(parameters))
    }

    /// Refuses a parameter that appears twice (RFC 6749 §3.2), but for those in `except`.
    pub(super) fn refuse_repeats(&self, except: &[&str]) -> Result<(), Unreadable> {
        let mut names: Vec<&str> =
            self.0.iter().map(|(name, _)| name.as_str()).filter(|name| !except.contains(name)).collect();
        names.sort_unstable();
        match names.windows(2).find(|pair| pair.first() == pair.last()).and_then(<[&str]>::first) {
            Some(name) => {
                let name: String = name.chars().take(100).collect();
                Err(Unreadable::syntax(&name, format!("`{name}` appears more than once")))
            }
            None => Ok(()),
        }
    }

    /// Takes all values of `name`, without the empty ones.
    pub(super) fn take_all(&mut self, name: &str) -> Vec<String> {
        let of_name = self.0.extract_if(.., |(known, _)| known == name);
        of_name.map(|(_, value)| value).filter(|value| !value.is_empty()).collect()
    }

    /// Takes the value of `name`.
    pub(super) fn take(&mut self, name: &str) -> Option<String> {
        self.take_all(name).into_iter().next()
    }

    /// Takes the value of `name`, which must be there.
    pub(super) fn require(&mut self, name: &str) -> Result<String, Unreadable> {
        self.take(name).ok_or_else(|| Unreadable::content(name, format!("`{name}` is missing")))
    }

    /// What nobody took.
    pub(super) fn rest(&self) -> &[(String, String)] {
        &self.0
    }
}

/// `None` for an escape that is none, or for bytes that are not UTF-8.
fn decoded(text: &[u8]) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut left = text.iter();
    while let Some(byte) = left.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => hex(*left.next()?)?.checked_mul(16)?.checked_add(hex(*left.next()?)?)?,
            other => *other,
        });
    }
    String::from_utf8(bytes).ok()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Parameters {
        Parameters::parse(text.as_bytes(), 10).unwrap()
    }

    #[test]
    fn parameters_are_decoded_and_taken() {
        let mut form = parse("a=1+2&b=%C3%BC%26&audience=x&audience=y&empty=&flag&=z");
        assert_eq!(form.take("a").as_deref(), Some("1 2"));
        assert_eq!(form.require("b").unwrap(), "ü&");
        assert_eq!(form.take_all("audience"), ["x", "y"]);
        assert_eq!(form.take("empty"), None, "a value that is empty is no value");
        assert!(form.require("c").is_err());
        assert_eq!(form.rest().len(), 2);
    }

    #[test]
    fn what_is_not_percent_encoded_utf8_is_refused() {
        for text in ["a=%", "a=%4", "a=%zz", "a=%ff", "%c3=1"] {
            assert!(Parameters::parse(text.as_bytes(), 10).is_err(), "{text}");
        }
        assert!(Parameters::parse("a=1&b=2&c=3".as_bytes(), 2).is_err());
    }

    #[test]
    fn a_repetition_is_found_wherever_it_stands() {
        assert!(parse("a=1&b=2&a=1").refuse_repeats(&[]).is_err());
        assert!(parse("x=1&x=").refuse_repeats(&[]).is_err(), "also of parameters that nobody knows");
        assert!(parse("a=1&a=2&b=3").refuse_repeats(&["a"]).is_ok());
    }
}
