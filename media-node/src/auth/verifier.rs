//! Tokens in, claims out.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, Instant},
};

use jsonwebtoken::{Algorithm, Validation};
use tracing::{info, warn};

use super::{AUDIENCE, Claims, ISSUER, Keys, KeysError};
use crate::system;

/// Longest token that is looked at.
const MAX_TOKEN: usize = 8 * 1024;

/// How often the key files are re-read, and how soon again for a token with an unknown key id.
const RELOAD: Duration = Duration::from_secs(5);
const RELOAD_AT_MOST: Duration = Duration::from_secs(1);

/// Why a token does not count. Its holder learns which, and nothing about the keys.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// No token.
    #[error("a bearer token is needed")]
    Missing,
    /// Not a JWT, or claims are missing or of the wrong type.
    #[error("the token is malformed")]
    Malformed,
    /// Signed with something else than ES256 or EdDSA, or header parameters that must be understood.
    #[error("the token's algorithm is not accepted")]
    Algorithm,
    /// No such key here.
    #[error("the token's key is not known")]
    UnknownKey,
    /// Forged, altered, or of another issuer or audience.
    #[error("the token is not one of this service")]
    Foreign,
    /// Over.
    #[error("the token has expired")]
    Expired,
    /// Not begun.
    #[error("the token is not valid yet")]
    NotYet,
    /// Good for too long.
    #[error("the token is good for longer than {max} seconds")]
    Lifetime {
        /// The most that is accepted, in seconds.
        max: i64,
    },
    /// A claim that cannot be.
    #[error("the token's claim {0} is not acceptable")]
    Claim(&'static str),
}

/// Verifies tokens with the keys that are good now. Clones are the same.
#[derive(Clone)]
pub struct Verifier(Arc<Inner>);

struct Inner {
    path: PathBuf,
    keys: RwLock<Arc<Keys>>,
    read_at: Mutex<Instant>,
    max_lifetime: i64,
}

impl Verifier {
    /// With the keys of a file or directory.
    ///
    /// # Errors
    /// As [`Keys::read`].
    pub fn new(path: PathBuf, max_lifetime: Duration) -> Result<Self, KeysError> {
        let keys = Keys::read(&path)?;
        Ok(Self(Arc::new(Inner {
            path,
            keys: RwLock::new(Arc::new(keys)),
            read_at: Mutex::new(system::now()),
            max_lifetime: i64::try_from(max_lifetime.as_secs()).unwrap_or(i64::MAX),
        })))
    }

    /// Re-reads the keys for as long as it is polled. Keys that cannot be read leave the earlier ones good.
    pub async fn keep_reading(self) {
        loop {
            tokio::time::sleep(RELOAD).await;
            self.reload().await;
        }
    }

    /// What a token says, if it counts at `now` (seconds since 1970).
    ///
    /// # Errors
    /// Why it does not.
    pub async fn verify(&self, token: &str, now: i64) -> Result<Claims, AuthError> {
        match self.verify_with(&self.keys(), token, now) {
            Err(AuthError::UnknownKey) if self.may_reload() => {
                self.reload().await;
                self.verify_with(&self.keys(), token, now)
            }
            result => result,
        }
    }

    fn keys(&self) -> Arc<Keys> {
        self.0.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn may_reload(&self) -> bool {
        let now = system::now();
        let mut read_at = self.0.read_at.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = now.saturating_duration_since(*read_at) >= RELOAD_AT_MOST;
        if is_due {
            *read_at = now;
        }
        is_due
    }

    pub(super) async fn reload(&self) {
        let path = self.0.path.clone();
        match tokio::task::spawn_blocking(move || Keys::read(&path)).await {
            Ok(Ok(keys)) => *self.0.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys),
            Ok(Err(error)) => warn!(%error, "keeping the earlier token keys"),
            Err(_) => info!("the process is ending"),
        }
    }

    fn verify_with(&self, keys: &Keys, token: &str, now: i64) -> Result<Claims, AuthError> {
        if token.len() > MAX_TOKEN {
            return Err(AuthError::Malformed);
        }
        let header = jsonwebtoken::decode_header(token).map_err(|error| match error.kind() {
            // An algorithm that the library has never heard of, `none` among them, fails to parse.
            jsonwebtoken::errors::ErrorKind::Json(_) => AuthError::Algorithm,
            _ => AuthError::Malformed,
        })?;
        if !matches!(header.alg, Algorithm::ES256 | Algorithm::EdDSA) || header.crit.is_some() {
            return Err(AuthError::Algorithm);
        }
        let mut validation = Validation::new(header.alg);
        validation.set_audience(&[AUDIENCE]);
        validation.set_issuer(&[ISSUER]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        // Times are checked below, against the time that we are told.
        validation.validate_exp = false;
        let mut failure = AuthError::UnknownKey;
        for key in keys.candidates(header.kid.as_deref(), header.alg) {
            match jsonwebtoken::decode::<Claims>(token, &key.key, &validation) {
                Ok(data) => {
                    data.claims.check_time(now, self.0.max_lifetime)?;
                    return Ok(data.claims);
                }
                Err(error) => {
                    failure = match error.kind() {
                        jsonwebtoken::errors::ErrorKind::Json(_) => AuthError::Malformed,
                        _ => AuthError::Foreign,
                    }
                }
            }
        }
        Err(failure)
    }
}
