//! The keys of join tokens and share links: which one signs, and which are believed.
//!
//! Two Secrets, each the truth about its half. `callplane-join-keys` has the private keys: the one that signs, and while
//! a rotation is under way the next one. `callplane-join-public` lists the public keys: those that media nodes and
//! gateways believe join tokens of, as a JWK set, and those that signed before, each with the times until which what it
//! signed may be about. No public key leaves the list before that, whatever became of its private half.

mod decide;
mod keeper;
mod key;
mod private;
mod public;
mod settings;

#[cfg(test)]
mod promise_tests;

use callplane_crds::names::JOIN_KEYS_SECRET;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use thiserror::Error;

pub use decide::{MAX_PREVIOUS, Plan, Policy, Verdict, World, decide};
pub use keeper::{Keeper, keep};
pub use key::{JoinKey, Jwk};
pub use private::{Keys, NEXT, Next, PRIVATE, ROTATE};
pub use public::{JWKS, PREVIOUS, Previous, Public};
pub use settings::JoinKeyArgs;

/// What is wrong with the keys.
#[derive(Debug, Error)]
pub enum KeysError {
    /// The Secret could not be read.
    #[error("cannot read Secret {JOIN_KEYS_SECRET}: {0}")]
    Read(Box<kube::Error>),
    /// The private key is no usable key. It is not replaced: it may be all that somebody has of it.
    #[error("Secret {JOIN_KEYS_SECRET} holds no P-256 key in PKCS#8 PEM under {PRIVATE}: delete it to get a new one")]
    Unusable,
    /// The next private key is no usable key. Somebody else put it there, so it is theirs to put right.
    #[error("Secret {JOIN_KEYS_SECRET} holds no P-256 key in PKCS#8 PEM under {NEXT}: put one there, or remove it")]
    UnusableNext,
    /// There is no private key yet.
    #[error("there is no Secret {JOIN_KEYS_SECRET} in namespace {0}: is the operator running there?")]
    Absent(String),
    /// No key could be made.
    #[error("no key could be generated")]
    Generate,
}

/// Reads the key that signs.
///
/// # Errors
/// When it cannot be read, is not there or cannot be used.
pub async fn read(client: Client, namespace: &str) -> Result<JoinKey, KeysError> {
    let api: Api<Secret> = Api::namespaced(client, namespace);
    let secret = api.get_opt(JOIN_KEYS_SECRET).await.map_err(|error| KeysError::Read(Box::new(error)))?;
    private::current(&secret.ok_or_else(|| KeysError::Absent(namespace.to_owned()))?)
}
