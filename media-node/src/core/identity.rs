//! The certificate of this process, and the cryptography it was made for.

use std::sync::Arc;

use aws_lc_rs::digest;
use rtc::crypto::{RTCCryptoProvider, default_provider};
use rtc::dtls::crypto::Certificate;

use super::command::Fingerprint;

/// No identity could be made.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// No cryptography provider is compiled in.
    #[error("no cryptography provider: {0}")]
    Provider(String),
    /// The certificate could not be generated.
    #[error("generating the DTLS certificate: {0}")]
    Certificate(String),
}

/// A self-signed ECDSA P-256 certificate (RFC 8827 §6.5), shared by all transports of the process, with
/// the provider of cryptography and of secret randomness. The core has neither of its own.
#[derive(Clone)]
pub struct Identity {
    pub(crate) certificate: Certificate,
    pub(crate) provider: Arc<dyn RTCCryptoProvider>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("provider", &self.provider.name()).finish_non_exhaustive()
    }
}

impl Identity {
    /// Generates a key and a certificate.
    ///
    /// # Errors
    ///
    /// When the provider lacks an algorithm or fails.
    pub fn generate() -> Result<Self, IdentityError> {
        let provider = default_provider().map_err(|e| IdentityError::Provider(e.to_string()))?;
        let certificate = Certificate::generate_self_signed(vec!["callplane".to_owned()], provider.crypto())
            .map_err(|e| IdentityError::Certificate(e.to_string()))?;
        Ok(Self { certificate, provider })
    }

    /// SHA-256 of the certificate, as it goes into the DTLS parameters of a transport (RFC 8122).
    pub fn fingerprint(&self) -> Fingerprint {
        let der = self.certificate.certificate.first().map(AsRef::as_ref).unwrap_or_default();
        Fingerprint { algorithm: "sha-256".to_owned(), digest: digest::digest(&digest::SHA256, der).as_ref().to_vec() }
    }
}

/// Whether a certificate has one of these fingerprints. Unknown hash functions never match.
pub(crate) fn matches(certificate: &[u8], fingerprints: &[Fingerprint]) -> bool {
    fingerprints.iter().any(|fingerprint| {
        let algorithm = match fingerprint.algorithm.as_str() {
            "sha-256" => &digest::SHA256,
            "sha-384" => &digest::SHA384,
            "sha-512" => &digest::SHA512,
            _ => return false,
        };
        digest::digest(algorithm, certificate).as_ref() == fingerprint.digest
    })
}
