//! Decides whose requests are whose: join tokens, signed by whoever holds a private key.
//!
//! A token is a JWT (RFC 7519) signed with ES256 or EdDSA and nothing else: the algorithm belongs to the
//! key, not to the token. The node has public keys only ([`Keys`]), several at a time so that they can be
//! rotated, and re-reads them when their files change.

mod claims;
mod keys;
pub mod mint;
mod verifier;

#[cfg(test)]
mod tests;

pub use claims::{AUDIENCE, Claims, ISSUER};
pub use keys::{Keys, KeysError};
pub use verifier::{AuthError, Verifier};
