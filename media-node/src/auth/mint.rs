//! Makes keys and tokens, for standalone use and for tests. On Kubernetes the gateway does.

use std::{
    fs, io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use aws_lc_rs::{
    digest::{SHA256, digest},
    error::{KeyRejected, Unspecified},
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;

use super::{AUDIENCE, Claims, ISSUER};

/// Names of the files that [`keygen`] writes.
pub const PRIVATE_FILE: &str = "signing.pem";
/// The public half, to be given to media nodes.
pub const PUBLIC_FILE: &str = "jwks.json";

/// Why no key or token was made.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    /// The file system says no.
    #[error("{path}: {error}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The cryptography library failed.
    #[error("making a key failed")]
    Key(#[from] Unspecified),
    /// The file holds no P-256 private key in PKCS#8.
    #[error("not a P-256 private key in PKCS#8 PEM: {0}")]
    Rejected(String),
    /// Signing failed.
    #[error("signing failed: {0}")]
    Sign(#[from] jsonwebtoken::errors::Error),
}

impl From<KeyRejected> for MintError {
    fn from(error: KeyRejected) -> Self {
        Self::Rejected(error.to_string())
    }
}

/// A private ES256 key.
pub struct Signer {
    key: EncodingKey,
    id: String,
    jwk: PublicJwk,
}

#[derive(Clone, Debug, Serialize)]
struct PublicJwk {
    kty: &'static str,
    crv: &'static str,
    x: String,
    y: String,
    alg: &'static str,
    r#use: &'static str,
    kid: String,
}

#[derive(Serialize)]
struct Token<'a> {
    iss: &'static str,
    aud: &'static str,
    #[serde(flatten)]
    claims: &'a Claims,
}

impl Signer {
    /// A new key, and itself as PKCS#8 PEM.
    ///
    /// # Errors
    /// [`MintError::Key`].
    pub fn generate() -> Result<(Self, String), MintError> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?;
        let encoded = STANDARD.encode(pair.to_pkcs8v1()?.as_ref());
        let lines: Vec<&str> = encoded.as_bytes().chunks(64).filter_map(|line| str::from_utf8(line).ok()).collect();
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"));
        Ok((Self::from_pem(&pem)?, pem))
    }

    /// The key of a PKCS#8 PEM.
    ///
    /// # Errors
    /// [`MintError::Rejected`] for anything else than a P-256 private key.
    pub fn from_pem(pem: &str) -> Result<Self, MintError> {
        let body: String = pem.lines().filter(|line| !line.starts_with("-----")).map(str::trim).collect();
        let der = STANDARD.decode(body).map_err(|error| MintError::Rejected(error.to_string()))?;
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der)?;
        let point = pair.public_key().as_ref();
        // Uncompressed: 0x04, x, y (SEC 1 §2.3.3).
        let (x, y) = (URL_SAFE_NO_PAD.encode(&point[1..33]), URL_SAFE_NO_PAD.encode(&point[33..65]));
        // RFC 7638: the digest of the required members in lexical order names the key.
        let canonical = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        let id = URL_SAFE_NO_PAD.encode(digest(&SHA256, canonical.as_bytes()).as_ref());
        let jwk = PublicJwk { kty: "EC", crv: "P-256", x, y, alg: "ES256", r#use: "sig", kid: id.clone() };
        Ok(Self { key: EncodingKey::from_ec_pem(pem.as_bytes())?, id, jwk })
    }

    /// The public half as a JWK set (RFC 7517).
    pub fn jwks(&self) -> String {
        #[derive(Serialize)]
        struct Set<'a> {
            keys: [&'a PublicJwk; 1],
        }
        serde_json::to_string_pretty(&Set { keys: [&self.jwk] }).unwrap_or_default()
    }

    /// A signed token.
    ///
    /// # Errors
    /// [`MintError::Sign`].
    pub fn token(&self, claims: &Claims) -> Result<String, MintError> {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(self.id.clone());
        Ok(jsonwebtoken::encode(&header, &Token { iss: ISSUER, aud: AUDIENCE, claims }, &self.key)?)
    }
}

/// Writes a new key pair: [`PRIVATE_FILE`], readable by its owner only, and [`PUBLIC_FILE`]. Returns their
/// paths. Never overwrites a private key.
///
/// # Errors
/// [`MintError::File`], [`MintError::Key`].
pub fn keygen(directory: &Path) -> Result<(PathBuf, PathBuf), MintError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error| MintError::File { path, error }
    };
    let (private, public) = (directory.join(PRIVATE_FILE), directory.join(PUBLIC_FILE));
    let (signer, pem) = Signer::generate()?;
    fs::create_dir_all(directory).map_err(failed(directory))?;
    let mut file =
        fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&private).map_err(failed(&private))?;
    io::Write::write_all(&mut file, pem.as_bytes()).map_err(failed(&private))?;
    fs::write(&public, signer.jwks()).map_err(failed(&public))?;
    Ok((private, public))
}
