//! The public keys, as one Kubernetes Secret lists them for media nodes and gateways.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::Jwk;
use crate::secret::{Data, data, text};

/// Key of the JWK set of join tokens (RFC 7517).
pub const JWKS: &str = "jwks.json";
/// Key of the keys that signed before: a JSON array, which media nodes do not take for a set of keys.
pub const PREVIOUS: &str = "previous.json";

/// What the Secret lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Public {
    /// Keys whose join tokens are believed, the one that signs first.
    pub tokens: Vec<Jwk>,
    /// Keys that signed before, the last one first.
    pub previous: Vec<Previous>,
}

/// A key that signed before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Previous {
    /// The key.
    #[serde(flatten)]
    pub jwk: Jwk,
    /// Until when its join and consent tokens are believed.
    pub tokens_until: Timestamp,
    /// Until when its share links are believed.
    pub links_until: Timestamp,
}

#[derive(Serialize, Deserialize)]
struct Set<K> {
    keys: Vec<K>,
}

impl Public {
    /// The keys of the set `jwks`. Keys of other kinds are for others: a set may hold them.
    ///
    /// # Errors
    /// When it is no set.
    pub fn tokens_in(jwks: &str) -> serde_json::Result<Vec<Jwk>> {
        let set: Set<Value> = serde_json::from_str(jwks)?;
        Ok(usable(set.keys, |jwk: &Jwk| jwk))
    }

    /// The keys of `previous`. What makes no sense of it is left out.
    ///
    /// # Errors
    /// When it is no array.
    pub fn previous_in(previous: &str) -> serde_json::Result<Vec<Previous>> {
        Ok(usable(serde_json::from_str(previous)?, |previous: &Previous| &previous.jwk))
    }

    /// What `secret` lists. What makes no sense is not there: calls need a list, and it can be made again.
    pub fn read(secret: &Secret) -> Self {
        let tokens = text(secret, JWKS).and_then(|text| Self::tokens_in(&text).ok());
        let previous = text(secret, PREVIOUS).and_then(|text| Self::previous_in(&text).ok());
        Self { tokens: tokens.unwrap_or_default(), previous: previous.unwrap_or_default() }
    }

    /// The JWK set of join tokens.
    pub fn jwks(&self) -> String {
        // Texts and times always serialise.
        serde_json::to_string_pretty(&Set { keys: self.tokens.iter().collect() }).unwrap_or_default()
    }

    /// As data of a Secret.
    pub fn data(&self) -> Data {
        let previous = serde_json::to_string_pretty(&self.previous).unwrap_or_default();
        data([(JWKS, self.jwks()), (PREVIOUS, previous)])
    }
}

fn usable<K: DeserializeOwned>(all: Vec<Value>, jwk: impl Fn(&K) -> &Jwk) -> Vec<K> {
    let keys = all.into_iter().filter_map(|key| serde_json::from_value(key).ok());
    keys.filter(|key| jwk(key).is_usable()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::keys::JoinKey;

    #[test]
    fn what_is_listed_is_read_and_the_rest_is_left_out() {
        let [one, two] = [1, 2].map(|n| JoinKey::nominal(n).jwk().clone());
        let time = |text: &str| text.parse::<Timestamp>().unwrap();
        let previous = Previous {
            jwk: two.clone(),
            tokens_until: time("2026-01-01T00:16:00Z"),
            links_until: time("2026-01-31T00:06:00Z"),
        };
        let public = Public { tokens: vec![one.clone(), two.clone()], previous: vec![previous.clone()] };
        let secret = Secret { data: Some(public.data()), ..Secret::default() };
        assert_eq!(Public::read(&secret), public);
        assert!(
            text(&secret, PREVIOUS).unwrap().starts_with('['),
            "a media node would take an object for a set of keys"
        );

        let foreign = json!({"kty": "RSA", "n": "AQAB", "e": "AQAB"});
        let mut forged = serde_json::to_value(&one).unwrap();
        forged["kid"] = "another".into();
        let set = json!({"keys": [foreign, forged, one, {}, 7]}).to_string();
        assert_eq!(Public::tokens_in(&set).unwrap(), [one]);
        let all = json!([previous, two, null]).to_string();
        assert_eq!(Public::previous_in(&all).unwrap(), [previous]);
        for wrong in ["", "{", "[]", "{\"keys\": 1}"] {
            assert!(Public::tokens_in(wrong).is_err(), "{wrong:?}");
        }
        assert!(Public::previous_in("{}").is_err());
        let garbled = Secret { data: Some(data([(JWKS, "{".into()), (PREVIOUS, "x".into())])), ..Secret::default() };
        for secret in [garbled, Secret::default()] {
            assert_eq!(Public::read(&secret), Public::default());
        }
    }
}
