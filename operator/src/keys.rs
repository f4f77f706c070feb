//! The keys of join tokens: made once, kept in two Secrets, never overwritten.
//!
//! The private key is what lets people into calls. Whoever made it first wins; the public Secret follows
//! from it and is put right whenever it does not.

use aws_lc_rs::{
    digest::{SHA256, digest},
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use callplane_crds::names::{JOIN_KEYS_SECRET, JOIN_PUBLIC_SECRET};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    api::{WriteError, Writer},
    secret::{self, text},
};

/// Key of the private key in its Secret.
pub const PRIVATE: &str = "private.pem";
/// Key of the key id in its Secret.
pub const KID: &str = "kid";
/// Key of the public keys in their Secret.
pub const JWKS: &str = "jwks.json";
/// Field manager of both Secrets.
const MANAGER: &str = "callplane-join-keys";

/// What is wrong with the keys.
#[derive(Debug, Error)]
pub enum KeysError {
    /// The Secret could not be read.
    #[error("cannot read Secret {name}: {source}")]
    Read {
        /// Its name.
        name: &'static str,
        /// Why.
        source: Box<kube::Error>,
    },
    /// The Secret could not be written.
    #[error("cannot write Secret {name}: {source}")]
    Write {
        /// Its name.
        name: &'static str,
        /// Why.
        source: WriteError,
    },
    /// The private key is no usable key. It is not replaced: it may be all that somebody has of it.
    #[error("Secret {JOIN_KEYS_SECRET} holds no P-256 key in PKCS#8 PEM under {PRIVATE}: delete it to get a new one")]
    Unusable,
    /// There is no private key yet.
    #[error("there is no Secret {JOIN_KEYS_SECRET} in namespace {0}: is the operator running there?")]
    Absent(String),
    /// No key could be made.
    #[error("no key could be generated")]
    Generate,
}

/// The private key with its id.
#[derive(Clone)]
pub struct JoinKey {
    /// PKCS#8 PEM.
    pub pem: String,
    /// RFC 7638 thumbprint of the public key.
    pub kid: String,
    jwk: Jwk,
}

/// A public key (RFC 7517).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Jwk {
    kty: String,
    crv: String,
    x: String,
    y: String,
    kid: String,
    alg: String,
    #[serde(rename = "use")]
    use_: String,
}

/// Public keys (RFC 7517).
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Jwks {
    keys: Vec<Jwk>,
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
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        let canonical = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        let kid = URL_SAFE_NO_PAD.encode(digest(&SHA256, canonical.as_bytes()));
        let jwk = Jwk {
            kty: "EC".into(),
            crv: "P-256".into(),
            x,
            y,
            kid: kid.clone(),
            alg: "ES256".into(),
            use_: "sig".into(),
        };
        Ok(Self { pem: pem.to_owned(), kid, jwk })
    }

    /// The public half, as media nodes read it.
    pub fn jwks(&self) -> String {
        serde_json::to_string_pretty(&Jwks { keys: vec![self.jwk.clone()] }).unwrap_or_default()
    }
}

impl std::fmt::Debug for JoinKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JoinKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

/// Reads the private key.
///
/// # Errors
/// When it cannot be read, is not there or cannot be used.
pub async fn read(client: Client, namespace: &str) -> Result<JoinKey, KeysError> {
    let api: Api<Secret> = Api::namespaced(client, namespace);
    read_secret(&api, JOIN_KEYS_SECRET)
        .await?
        .ok_or_else(|| KeysError::Absent(namespace.to_owned()))
        .and_then(|s| key(&s))
}

/// Sees to it that both Secrets are there and belong together.
///
/// # Errors
/// When that cannot be done.
pub async fn ensure(writer: &Writer, namespace: &str) -> Result<(), KeysError> {
    let api: Api<Secret> = Api::namespaced(writer.client.clone(), namespace);
    let key = match read_secret(&api, JOIN_KEYS_SECRET).await? {
        Some(secret) => key(&secret)?,
        None => {
            let new = JoinKey::generate()?;
            let data = secret::data([(PRIVATE, new.pem.clone()), (KID, new.kid.clone())]);
            let post = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
            match writer.write("Secret", "create", api.create(&post, &secret::named(JOIN_KEYS_SECRET, data))).await {
                Ok(_) => {
                    tracing::info!(kid = new.kid, "made the key of join tokens");
                    new
                }
                // Somebody was faster: theirs is the key.
                Err(WriteError::Conflict { .. }) => match read_secret(&api, JOIN_KEYS_SECRET).await? {
                    Some(theirs) => self::key(&theirs)?,
                    None => return Err(KeysError::Absent(namespace.to_owned())),
                },
                Err(source) => return Err(KeysError::Write { name: JOIN_KEYS_SECRET, source }),
            }
        }
    };
    let public = read_secret(&api, JOIN_PUBLIC_SECRET).await?;
    if public.as_ref().and_then(|s| text(s, JWKS)).as_deref() == Some(key.jwks().as_str()) {
        return Ok(());
    }
    let wanted = secret::named(JOIN_PUBLIC_SECRET, secret::data([(JWKS, key.jwks())]));
    let failed = |source| KeysError::Write { name: JOIN_PUBLIC_SECRET, source };
    if public.is_none() {
        let post = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        match writer.write("Secret", "create", api.create(&post, &wanted)).await {
            Ok(_) => return Ok(()),
            Err(WriteError::Conflict { .. }) => {}
            Err(source) => return Err(failed(source)),
        }
    }
    let parameters = PatchParams::apply(MANAGER).force();
    let patch = Patch::Apply(&wanted);
    let apply = api.patch(JOIN_PUBLIC_SECRET, &parameters, &patch);
    writer.write("Secret", "apply", apply).await.map(|_| ()).map_err(failed)
}

async fn read_secret(api: &Api<Secret>, name: &'static str) -> Result<Option<Secret>, KeysError> {
    api.get_opt(name).await.map_err(|source| KeysError::Read { name, source: Box::new(source) })
}

fn key(secret: &Secret) -> Result<JoinKey, KeysError> {
    text(secret, PRIVATE).ok_or(KeysError::Unusable).and_then(|pem| JoinKey::from_pem(&pem))
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
    }

    #[test]
    fn what_is_no_key_is_refused_and_not_replaced() {
        for pem in ["", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "not a key"] {
            assert!(matches!(JoinKey::from_pem(pem), Err(KeysError::Unusable)), "{pem:?}");
        }
    }
}
