//! The keys of join tokens and share links, from mounted Secrets that may change: one signs, several are believed.
//!
//! Which are believed is the operator's to say, in files: so every replica says the same, and says it again after a
//! restart. A key that signed before is believed of share links for as long as they last, and of join tokens, by which
//! people get into calls, only for minutes.

use std::{
    fs,
    io::{self, ErrorKind, Read as _},
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use callplane_crds::names::TOKEN_ISSUER;
use callplane_operator::keys::{JWKS, JoinKey, Jwk as PublicKey, PREVIOUS, PRIVATE, Previous, Public};
use jiff::Timestamp;
use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, Header, Validation,
    jwk::{Jwk, JwkSet},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::claims::LINK_AUDIENCE;
use crate::{Code, Problem};

/// How often the directory is read again.
const RELOAD: Duration = Duration::from_secs(5);
/// Clock skew that is forgiven, in seconds.
const LEEWAY: i64 = 5;
/// Longest token that is looked at.
const MAX_TOKEN: usize = 8 * 1024;
/// Longest private key, and longest list of public keys, that is read.
const MAX_KEY: u64 = 16 * 1024;
const MAX_LIST: u64 = 256 * 1024;

/// Signs and verifies. Clones are the same.
#[derive(Clone)]
pub struct Signer {
    directory: PathBuf,
    keys: Arc<RwLock<Arc<Keys>>>,
}

#[derive(Clone, Default)]
struct Keys {
    current: Option<Arc<JoinKey>>,
    /// Those that are believed besides.
    tokens: Vec<PublicKey>,
    /// Those that signed before.
    previous: Vec<Previous>,
}

impl Keys {
    /// Whose join tokens are believed, the one that signs first.
    fn of_tokens(&self) -> impl Iterator<Item = &PublicKey> {
        let current = self.current.as_ref().map(|key| key.jwk());
        let is_current = move |key: &PublicKey| current.is_some_and(|current| current.kid == key.kid);
        current.into_iter().chain(self.tokens.iter().filter(move |key| !is_current(key)))
    }

    /// The key `id`, if what it signed for `audience` is believed at `now`.
    fn find(&self, id: &str, audience: &str, now: Timestamp) -> Option<&PublicKey> {
        let previous = self.previous.iter().filter(|previous| audience == LINK_AUDIENCE && previous.links_until > now);
        self.of_tokens().chain(previous.map(|previous| &previous.jwk)).find(|key| key.kid == id)
    }
}

/// When a token is good.
#[derive(Deserialize)]
struct Times {
    iat: i64,
    exp: i64,
}

impl Signer {
    /// With `private.pem`, `jwks.json` and `previous.json` of `directory`. What is not there may come.
    pub fn new(directory: PathBuf) -> Self {
        let signer = Self { directory, keys: Arc::default() };
        signer.reload();
        signer
    }

    /// Reads the keys again for as long as it is polled. What cannot be read leaves the earlier ones good.
    pub async fn keep_reading(self) {
        loop {
            tokio::time::sleep(RELOAD).await;
            self.reload();
        }
    }

    /// Reads the keys again.
    pub fn reload(&self) {
        let known = self.keys();
        let mut keys = Keys::clone(&known);
        match self.file(PRIVATE, MAX_KEY).and_then(|pem| JoinKey::from_pem(&pem).map_err(io::Error::other)) {
            Ok(key) => {
                if known.current.as_ref().is_none_or(|current| current.kid != key.kid) {
                    tracing::info!(kid = key.kid, "the key of join tokens");
                }
                keys.current = Some(Arc::new(key));
            }
            Err(error) => tracing::warn!(%error, "no key of join tokens could be read"),
        }
        match self.list(JWKS, Public::tokens_in) {
            Ok(tokens) => keys.tokens = tokens,
            Err(error) => tracing::warn!(%error, "keeping the earlier public keys of join tokens"),
        }
        match self.list(PREVIOUS, Public::previous_in) {
            Ok(previous) => keys.previous = previous,
            Err(error) => tracing::warn!(%error, "keeping the earlier public keys of share links"),
        }
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
    }

    /// The public keys in the file `name`; none when there is none, as where nobody but this signs.
    fn list<K>(&self, name: &str, parse: fn(&str) -> serde_json::Result<Vec<K>>) -> Result<Vec<K>, io::Error> {
        match self.file(name, MAX_LIST) {
            Ok(text) => parse(&text).map_err(io::Error::from),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    fn file(&self, name: &str, longest: u64) -> Result<String, io::Error> {
        let mut text = String::new();
        fs::File::open(self.directory.join(name))?.take(longest + 1).read_to_string(&mut text)?;
        match u64::try_from(text.len()).is_ok_and(|length| length <= longest) {
            true => Ok(text),
            false => Err(io::Error::other(format!("{name} is too long to be what it should"))),
        }
    }

    fn keys(&self) -> Arc<Keys> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The key to sign with.
    ///
    /// # Errors
    /// [`Code::NoSigningKey`].
    pub fn key(&self) -> Result<Arc<JoinKey>, Problem> {
        let current = self.keys().current.clone();
        current.ok_or_else(|| Problem::new(Code::NoSigningKey, "there is no key to sign tokens with yet"))
    }

    /// Whether there is a key.
    pub fn is_ready(&self) -> bool {
        self.key().is_ok()
    }

    /// The public keys of join tokens: of the one that signs, of the next one some time before it does, and of the one
    /// before it for as long as its join tokens last.
    pub fn jwks(&self) -> JwkSet {
        JwkSet { keys: self.keys().of_tokens().filter_map(jwk).collect() }
    }

    /// A token that says `claims`.
    ///
    /// # Errors
    /// [`Code::NoSigningKey`].
    pub fn sign(&self, claims: &impl Serialize) -> Result<String, Problem> {
        let key = self.key()?;
        let header = Header { kid: Some(key.kid.clone()), ..Header::new(Algorithm::ES256) };
        let signed = EncodingKey::from_ec_pem(key.pem.as_bytes())
            .and_then(|encoding| jsonwebtoken::encode(&header, claims, &encoding));
        signed.map_err(|error| {
            tracing::error!(%error, "signing failed");
            Problem::new(Code::NoSigningKey, "the key does not sign")
        })
    }

    /// What `token` says, if a key that is believed signed it for `audience` and it is good at `now`.
    ///
    /// # Errors
    /// [`Code::CredentialsInvalid`], [`Code::CredentialsExpired`].
    pub fn verify<C: DeserializeOwned>(&self, token: &str, audience: &str, now: Timestamp) -> Result<C, Problem> {
        let foreign =
            || Problem::new(Code::CredentialsInvalid, "the token is not one of this service, or not for this");
        if token.len() > MAX_TOKEN {
            return Err(foreign());
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| foreign())?;
        if header.alg != Algorithm::ES256 || header.crit.is_some() {
            return Err(foreign());
        }
        let keys = self.keys();
        let key = header.kid.as_deref().and_then(|kid| keys.find(kid, audience, now)).and_then(jwk);
        let key = key.and_then(|jwk| DecodingKey::from_jwk(&jwk).ok()).ok_or_else(foreign)?;
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_audience(&[audience]);
        validation.set_issuer(&[TOKEN_ISSUER]);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        // Times are checked below, against the time that we are told.
        validation.validate_exp = false;
        let times = jsonwebtoken::decode::<Times>(token, &key, &validation).map_err(|_| foreign())?.claims;
        if times.exp.saturating_add(LEEWAY) <= now.as_second() {
            return Err(Problem::new(Code::CredentialsExpired, "the token has expired"));
        }
        if times.iat > now.as_second().saturating_add(LEEWAY) {
            return Err(Problem::new(Code::CredentialsInvalid, "the token is not valid yet"));
        }
        Ok(jsonwebtoken::decode::<C>(token, &key, &validation).map_err(|_| foreign())?.claims)
    }
}

/// As the library that verifies knows it.
fn jwk(key: &PublicKey) -> Option<Jwk> {
    serde_json::to_value(key).and_then(serde_json::from_value).ok()
}

#[cfg(test)]
#[path = "signer_tests.rs"]
mod tests;
