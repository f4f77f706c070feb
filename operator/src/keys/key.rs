//! One key of join tokens: ES256 (RFC 7518 §3.4), in PKCS#8 PEM, and its public half as a JWK (RFC 7517).

use aws_lc_rs::{
    digest::{SHA256, digest},
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde::{Deserialize, Serialize};

use super::{KeysError, Public};

/// Bytes of a coordinate of P-256.
const COORDINATE: usize = 32;

/// The private key with its id.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinKey {
    /// PKCS#8 PEM.
    pub pem: String,
    /// RFC 7638 thumbprint of the public key.
    pub kid: String,
    jwk: Jwk,
}

/// A public key (RFC 7517).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jwk {
    kty: String,
    crv: String,
    x: String,
    y: String,
    /// RFC 7638 thumbprint.
    pub kid: String,
    alg: String,
    #[serde(rename = "use")]
    use_: String,
}

impl Jwk {
    /// Of the point with these coordinates, in base64url.
    fn of(x: String, y: String) -> Self {
        let canonical = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        let kid = URL_SAFE_NO_PAD.encode(digest(&SHA256, canonical.as_bytes()));
        Self { kty: "EC".into(), crv: "P-256".into(), x, y, kid, alg: "ES256".into(), use_: "sig".into() }
    }

    /// Whether it is one that [`JoinKey`] makes.
    pub(super) fn is_usable(&self) -> bool {
        let is_coordinate = |text: &str| URL_SAFE_NO_PAD.decode(text).is_ok_and(|bytes| bytes.len() == COORDINATE);
        is_coordinate(&self.x) && is_coordinate(&self.y) && *self == Self::of(self.x.clone(), self.y.clone())
    }
}

impl JoinKey {
    /// A new key.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn generate() -> Result<Self, KeysError> {
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
            .map_err(|_| KeysError::Generate)?;
        Self::from_pem(&pem(document.as_ref()))
    }

    /// The key in `pem`.
    ///
    /// # Errors
    /// When there is none.
    pub fn from_pem(pem: &str) -> Result<Self, KeysError> {
        let body: String = pem.lines().filter(|l| !l.starts_with("-----")).map(str::trim).collect();
        let der = STANDARD.decode(body).map_err(|_| KeysError::Unusable)?;
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der).map_err(|_| KeysError::Unusable)?;
        // An uncompressed point: 4, x, y.
        let point = pair.public_key().as_ref();
        let (Some(x), Some(y)) = (point.get(1..33), point.get(33..65)) else { return Err(KeysError::Unusable) };
        let jwk = Jwk::of(URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        Ok(Self { pem: pem.to_owned(), kid: jwk.kid.clone(), jwk })
    }

    /// The public half.
    pub fn jwk(&self) -> &Jwk {
        &self.jwk
    }

    /// The public half alone, as media nodes read it.
    pub fn jwks(&self) -> String {
        Public { tokens: vec![self.jwk.clone()], previous: vec![] }.jwks()
    }

    /// One that signs nothing, for tests that need many.
    #[cfg(test)]
    pub(super) fn nominal(n: u32) -> Self {
        let mut bytes = [0; COORDINATE];
        bytes[..4].copy_from_slice(&n.to_be_bytes());
        let coordinate = URL_SAFE_NO_PAD.encode(bytes);
        let jwk = Jwk::of(coordinate.clone(), coordinate);
        Self { pem: format!("key {n}"), kid: jwk.kid.clone(), jwk }
    }
}

impl std::fmt::Debug for JoinKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JoinKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).filter_map(|l| std::str::from_utf8(l).ok()).collect();
    format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_public_half_follows_from_the_private_one() {
        let key = JoinKey::generate().unwrap();
        let again = JoinKey::from_pem(&key.pem).unwrap();
        assert_eq!((&key.kid, key.jwks()), (&again.kid, again.jwks()));
        assert_ne!(key.kid, JoinKey::generate().unwrap().kid);
        assert!(!format!("{key:?}").contains("PRIVATE"), "keys must not get into logs");
        assert!(key.jwk().is_usable());
        let renamed = Jwk { kid: "another".into(), ..key.jwk().clone() };
        let short = Jwk::of("AAAA".into(), key.jwk().y.clone());
        assert!(!renamed.is_usable() && !short.is_usable());
    }

    #[test]
    fn what_is_no_key_is_refused_and_not_replaced() {
        for pem in ["", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "not a key"] {
            assert!(matches!(JoinKey::from_pem(pem), Err(KeysError::Unusable)), "{pem:?}");
        }
    }
}
