//! Public keys, from a file or a directory (a mounted Secret).

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet},
};

/// Keys that are read at most. Tokens without a key id are tried with each.
const MAX_KEYS: usize = 32;

/// Largest file that is read.
const MAX_FILE: u64 = 256 * 1024;

/// One public key, with the one algorithm that it is for.
pub(super) struct Key {
    pub(super) id: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) key: DecodingKey,
}

/// The keys that are good now.
#[derive(Default)]
pub struct Keys(Vec<Key>);

/// Why keys could not be read.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The file system says no.
    #[error("reading {path}: {error}")]
    Read {
        /// Which file or directory.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The file holds something else.
    #[error("{path}: {reason}")]
    Content {
        /// Which file.
        path: PathBuf,
        /// What it holds, or should.
        reason: String,
    },
    /// Nothing found.
    #[error("{0}: no ES256 or EdDSA public key (PEM or JWKS) found")]
    None(PathBuf),
}

impl Keys {
    /// Reads a PEM or JWKS file, or every such file of a directory. A PEM's key id is its file name
    /// without extension. Files whose name begins with a dot are skipped (Kubernetes keeps its own there).
    ///
    /// # Errors
    /// Unreadable files, private keys, and nothing at all.
    pub fn read(path: &Path) -> Result<Self, KeysError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |error| KeysError::Read { path, error }
        };
        let mut files = Vec::new();
        if fs::metadata(path).map_err(failed(path))?.is_dir() {
            for entry in fs::read_dir(path).map_err(failed(path))? {
                let entry = entry.map_err(failed(path))?;
                if !entry.file_name().as_encoded_bytes().starts_with(b".") {
                    files.push(entry.path());
                }
            }
            files.sort();
        } else {
            files.push(path.to_owned());
        }
        let mut keys = Vec::new();
        for file in files {
            let metadata = fs::metadata(&file).map_err(failed(&file))?;
            if metadata.is_file() && metadata.len() <= MAX_FILE {
                let content = fs::read(&file).map_err(failed(&file))?;
                keys.extend(parse(&file, &content).map_err(|reason| KeysError::Content { path: file, reason })?);
            }
        }
        keys.truncate(MAX_KEYS);
        match keys.is_empty() {
            true => Err(KeysError::None(path.to_owned())),
            false => Ok(Self(keys)),
        }
    }

    /// Keys that a token with this key id and algorithm may be signed with.
    pub(super) fn candidates(&self, id: Option<&str>, algorithm: Algorithm) -> impl Iterator<Item = &Key> {
        self.0.iter().filter(move |key| key.algorithm == algorithm && (id.is_none() || key.id.as_deref() == id))
    }
}

/// Whatever is neither PEM nor JSON is no key file and holds none.
fn parse(path: &Path, content: &[u8]) -> Result<Vec<Key>, String> {
    let text = String::from_utf8_lossy(content);
    if text.contains("PRIVATE KEY-----") {
        return Err("holds a private key, which a media node must not have".into());
    }
    if text.contains("-----BEGIN PUBLIC KEY-----") {
        let id = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        return pem(content, id).map(|key| vec![key]);
    }
    if text.trim_start().starts_with('{') {
        return jwks(content);
    }
    Ok(Vec::new())
}

fn pem(content: &[u8], id: Option<String>) -> Result<Key, String> {
    if let Ok(key) = DecodingKey::from_ec_pem(content) {
        return Ok(Key { id, algorithm: Algorithm::ES256, key });
    }
    match DecodingKey::from_ed_pem(content) {
        Ok(key) => Ok(Key { id, algorithm: Algorithm::EdDSA, key }),
        Err(_) => Err("is neither a P-256 nor an Ed25519 public key".into()),
    }
}

fn jwks(content: &[u8]) -> Result<Vec<Key>, String> {
    let raw: serde_json::Value = serde_json::from_slice(content).map_err(|error| error.to_string())?;
    let is_private = |key: &serde_json::Value| key.get("d").is_some();
    if raw["keys"].as_array().is_some_and(|keys| keys.iter().any(is_private)) {
        return Err("holds a private key, which a media node must not have".into());
    }
    let set: JwkSet = serde_json::from_value(raw).map_err(|error| error.to_string())?;
    Ok(set.keys.iter().filter_map(jwk).collect())
}

/// Keys of other kinds are for others: a set may hold them.
fn jwk(jwk: &Jwk) -> Option<Key> {
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => Algorithm::ES256,
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => Algorithm::EdDSA,
        _ => return None,
    };
    Some(Key { id: jwk.common.key_id.clone(), algorithm, key: DecodingKey::from_jwk(jwk).ok()? })
}
