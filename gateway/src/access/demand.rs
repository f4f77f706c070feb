//! What a token of an issuer has to say before its bearer is a backend: scopes and roles.

use std::str::FromStr;

use serde_json::{Map, Value};
use thiserror::Error;

/// That a claim has a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand {
    /// Name of the claim, or the way to it: names with dots between them.
    pub claim: String,
    /// What it is to have.
    pub value: String,
}

/// It is not `CLAIM=VALUE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("is not CLAIM=VALUE, such as scope=callplane or realm_access.roles=backend")]
pub struct InvalidDemand;

impl FromStr for Demand {
    type Err = InvalidDemand;

    fn from_str(text: &str) -> Result<Self, InvalidDemand> {
        let (claim, value) = text.split_once('=').ok_or(InvalidDemand)?;
        let is_word = |text: &str| !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control());
        match is_word(claim) && is_word(value) {
            true => Ok(Self { claim: claim.to_owned(), value: value.to_owned() }),
            false => Err(InvalidDemand),
        }
    }
}

impl Demand {
    /// Whether `claims` meet it. A text is a list of words (`scope`, RFC 8693 §4.2), a list has its texts (`scp`, `roles`).
    pub fn is_met(&self, claims: &Map<String, Value>) -> bool {
        match claims.get(&self.claim).or_else(|| self.below(claims)) {
            Some(Value::String(text)) => text.split(' ').any(|word| word == self.value),
            Some(Value::Array(items)) => items.iter().any(|item| item.as_str() == Some(&self.value)),
            _ => false,
        }
    }

    /// What the way through objects leads to.
    fn below<'a>(&self, claims: &'a Map<String, Value>) -> Option<&'a Value> {
        let mut names = self.claim.split('.');
        let first = claims.get(names.next()?)?;
        names.try_fold(first, |object, name| object.get(name))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_claim_is_a_list_of_words_or_of_texts_and_may_lie_deeper() {
        let claims = json!({
            "scope": "openid callplane.rooms",
            "scp": ["callplane.rooms", 7],
            "realm_access": {"roles": ["backend"]},
            "https://example.org/roles": ["admin"],
            "count": 7,
        });
        for (demand, expected) in [
            ("scope=callplane.rooms", true),
            ("scope=openid", true),
            ("scope=callplane", false),
            ("scope=rooms", false),
            ("scp=callplane.rooms", true),
            ("scp=7", false),
            ("realm_access.roles=backend", true),
            ("realm_access.roles=admin", false),
            ("realm_access=backend", false),
            ("realm_access.roles.more=backend", false),
            ("https://example.org/roles=admin", true),
            ("roles=admin", false),
            ("count=7", false),
        ] {
            let is_met = demand.parse::<Demand>().unwrap().is_met(claims.as_object().unwrap());
            assert_eq!(is_met, expected, "{demand}");
        }
    }

    #[test]
    fn what_is_no_demand_is_refused() {
        for text in ["", "scope", "=x", "scope=", "scope=a b", "sc ope=a", "scope=a\n"] {
            assert_eq!(text.parse::<Demand>(), Err(InvalidDemand), "{text:?}");
        }
        let demand: Demand = "https://example.org/roles=a=b".parse().unwrap();
        assert_eq!((demand.claim.as_str(), demand.value.as_str()), ("https://example.org/roles", "a=b"));
    }
}
