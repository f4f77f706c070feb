//! Backends that bear a token of an OpenID Connect issuer (OpenID Connect Discovery 1.0, RFC 7517, RFC 7519).
//!
//! The issuer's keys are fetched now and then, and when a token names one that is not known. While it is away, the keys that are
//! known go on. A token that is for our audience, and has the scopes and roles that are demanded, makes its bearer a backend: whom
//! the issuer gives such tokens is what decides.

use std::{
    fs, io,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use axum::http::Uri;
use callplane_operator::clock::{Clock, Now};
use jiff::Timestamp;
use jsonwebtoken::{
    Algorithm, DecodingKey, Validation,
    jwk::{Jwk, JwkSet, PublicKeyUse},
};
use serde::{Deserialize, de::DeserializeOwned};
use thiserror::Error;
use tokio::sync::Mutex;

use super::Demand;
use crate::{Code, Problem};

/// How tokens may be signed.
const ALGORITHMS: [Algorithm; 3] = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];
/// How often keys are fetched when nothing asks for them.
const REFRESH: Duration = Duration::from_secs(600);
/// How often keys are fetched at most, whatever tokens name.
const REFRESH_AGAIN: Duration = Duration::from_secs(10);
/// Longest time that the issuer may take for one answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Longest answer that is read, in bytes.
const MAX_ANSWER: usize = 256 * 1024;
/// Most keys that are kept.
const MAX_KEYS: usize = 64;
/// Longest token that is looked at.
const MAX_TOKEN: usize = 8 * 1024;
/// Longest subject.
const MAX_SUBJECT: usize = 200;
/// Clock skew that is forgiven, in seconds.
const LEEWAY: i64 = 30;

/// Which issuer, and for whom its tokens are to be.
#[derive(Clone, Debug)]
pub struct Issuer {
    /// Its URL, as its tokens name it.
    pub url: String,
    /// `aud` of tokens that are for us.
    pub audience: String,
    /// What tokens have to say besides: all of it.
    pub demands: Vec<Demand>,
    /// Certificates in PEM of authorities besides the system's.
    pub authorities: Option<PathBuf>,
}

/// What is wrong with an issuer.
#[derive(Debug, Error)]
pub enum OidcError {
    /// Keys are only fetched where nobody can exchange them on the way.
    #[error("{0} is neither an https URL nor one of this machine")]
    NotSafe(String),
    /// The certificates cannot be read.
    #[error("cannot read certificates from {}: {source}", .path.display())]
    Authorities {
        /// Where they should be.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It does not answer, or not with what it should.
    #[error("the issuer does not answer: {0}")]
    Http(#[from] reqwest::Error),
    /// It answers something else.
    #[error("{url} is no {what}")]
    Answer {
        /// What was asked.
        url: String,
        /// What it should have been.
        what: &'static str,
    },
    /// It calls itself otherwise.
    #[error("the issuer calls itself {0}")]
    OtherName(String),
}

/// An issuer and its keys. Clones are the same.
#[derive(Clone)]
pub struct Oidc(Arc<Inner>);

struct Inner {
    issuer: Issuer,
    client: reqwest::Client,
    /// None until they were fetched once.
    keys: RwLock<Option<Arc<Vec<Jwk>>>>,
    /// When they were last asked for. Whoever fetches holds it, so that nobody else does meanwhile.
    asked: Mutex<Option<Duration>>,
}

/// Of `/.well-known/openid-configuration`.
#[derive(Deserialize)]
struct Configuration {
    issuer: String,
    jwks_uri: String,
}

#[derive(Deserialize)]
struct Unverified {
    iss: String,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    exp: i64,
    #[serde(default)]
    nbf: Option<i64>,
    #[serde(flatten)]
    others: serde_json::Map<String, serde_json::Value>,
}

impl Oidc {
    /// `issuer`, of which nothing is known yet.
    ///
    /// # Errors
    /// When it is no issuer that can be trusted, or its authorities cannot be read.
    pub fn new(issuer: Issuer) -> Result<Self, OidcError> {
        safe(&issuer.url)?;
        let mut client =
            reqwest::Client::builder().timeout(ANSWER_WITHIN).redirect(reqwest::redirect::Policy::none()).no_proxy();
        if let Some(path) = &issuer.authorities {
            let unread = |source| OidcError::Authorities { path: path.clone(), source };
            let pem = fs::read(path).map_err(unread)?;
            client = client.tls_certs_merge(reqwest::Certificate::from_pem_bundle(&pem)?);
        }
        let client = client.build()?;
        Ok(Self(Arc::new(Inner { issuer, client, keys: RwLock::default(), asked: Mutex::default() })))
    }

    /// Fetches keys for as long as it is polled.
    pub async fn keep_fetching(self, clock: Clock) {
        loop {
            self.fetch(clock.now()).await;
            let wait = if self.keys().is_some() { REFRESH } else { REFRESH_AGAIN };
            tokio::time::sleep(wait).await;
        }
    }

    /// Whether `token` says that it is of this issuer. Nothing is verified.
    pub fn is_of(&self, token: &str) -> bool {
        let says = || jsonwebtoken::dangerous::insecure_decode_claims::<Unverified>(token).ok();
        token.len() <= MAX_TOKEN && says().is_some_and(|claims| claims.iss == self.0.issuer.url)
    }

    /// Sees to it that the key of `token` is known, if it is one of this issuer and the issuer has it.
    pub async fn prepare(&self, token: &str, now: Now) {
        if self.is_of(token) && self.key(token).is_none() {
            self.fetch(now).await;
        }
    }

    /// Who bears `token`, as `oidc:<subject>`.
    ///
    /// # Errors
    /// [`Code::CredentialsInvalid`], [`Code::CredentialsExpired`], [`Code::InsufficientScope`], [`Code::IssuerUnavailable`] while
    /// no keys are known.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<String, Problem> {
        let invalid = || Problem::new(Code::CredentialsInvalid, "the token is not one that the issuer made for this");
        if self.keys().is_none() {
            return Err(Problem::new(Code::IssuerUnavailable, "the keys of the tokens' issuer are not known yet"));
        }
        let (algorithm, jwk) = self.key(token).ok_or_else(invalid)?;
        let key = DecodingKey::from_jwk(&jwk).map_err(|_| invalid())?;
        let mut validation = Validation::new(algorithm);
        validation.set_audience(&[&self.0.issuer.audience]);
        validation.set_issuer(&[&self.0.issuer.url]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        // Times are checked below, against the time that we are told.
        validation.validate_exp = false;
        let claims = jsonwebtoken::decode::<Claims>(token, &key, &validation).map_err(|_| invalid())?.claims;
        let now = now.as_second();
        if claims.exp.saturating_add(LEEWAY) <= now {
            return Err(Problem::new(Code::CredentialsExpired, "the token has expired"));
        }
        let subject = &claims.sub;
        let is_name = (1..=MAX_SUBJECT).contains(&subject.len()) && !subject.chars().any(char::is_control);
        if claims.nbf.is_some_and(|from| from > now.saturating_add(LEEWAY)) || !is_name {
            return Err(invalid());
        }
        if let Some(Demand { claim, value }) = self.0.issuer.demands.iter().find(|d| !d.is_met(&claims.others)) {
            let detail = format!("the token is for this, but its claim {claim} has no {value}");
            return Err(Problem::new(Code::InsufficientScope, detail));
        }
        Ok(format!("oidc:{subject}"))
    }

    fn keys(&self) -> Option<Arc<Vec<Jwk>>> {
        self.0.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The key that `token` names; the only one there is if it names none.
    fn key(&self, token: &str) -> Option<(Algorithm, Jwk)> {
        if token.len() > MAX_TOKEN {
            return None;
        }
        let header = jsonwebtoken::decode_header(token).ok()?;
        if !ALGORITHMS.contains(&header.alg) || header.crit.is_some() {
            return None;
        }
        let keys = self.keys()?;
        let found = match (&header.kid, keys.as_slice()) {
            (Some(kid), keys) => keys.iter().find(|key| key.common.key_id.as_ref() == Some(kid)),
            (None, [only]) => Some(only),
            (None, _) => None,
        };
        found.map(|key| (header.alg, key.clone()))
    }

    /// Fetches the keys, unless that was tried a moment ago. What cannot be fetched leaves the earlier ones good.
    async fn fetch(&self, now: Now) {
        let mut asked = self.0.asked.lock().await;
        if asked.is_some_and(|at| now.mono < at + REFRESH_AGAIN) {
            return;
        }
        *asked = Some(now.mono);
        match self.ask().await {
            Ok(keys) => {
                *self.0.keys.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(keys));
            }
            Err(error) => tracing::warn!(%error, issuer = self.0.issuer.url, "keeping the issuer's earlier keys"),
        }
    }

    async fn ask(&self) -> Result<Vec<Jwk>, OidcError> {
        let issuer = &self.0.issuer.url;
        let url = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let configuration: Configuration = self.read(&url, "OpenID Connect configuration").await?;
        if configuration.issuer != *issuer {
            return Err(OidcError::OtherName(configuration.issuer));
        }
        safe(&configuration.jwks_uri)?;
        let set: JwkSet = self.read(&configuration.jwks_uri, "set of keys").await?;
        let signs = |key: &Jwk| matches!(key.common.public_key_use, None | Some(PublicKeyUse::Signature));
        Ok(set.keys.into_iter().filter(signs).take(MAX_KEYS).collect())
    }

    async fn read<T: DeserializeOwned>(&self, url: &str, what: &'static str) -> Result<T, OidcError> {
        let mut response = self.0.client.get(url).send().await?.error_for_status()?;
        let wrong = || OidcError::Answer { url: url.to_owned(), what };
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            if body.len() + chunk.len() > MAX_ANSWER {
                return Err(wrong());
            }
            body.extend_from_slice(&chunk);
        }
        serde_json::from_slice(&body).map_err(|_| wrong())
    }
}

fn safe(url: &str) -> Result<(), OidcError> {
    let uri = url.parse::<Uri>().ok();
    let is_safe = uri.as_ref().is_some_and(|uri| match (uri.scheme_str(), uri.host()) {
        (Some("https"), Some(_)) => true,
        (Some("http"), Some(host)) => ["localhost", "127.0.0.1", "[::1]"].contains(&host),
        _ => false,
    });
    if is_safe { Ok(()) } else { Err(OidcError::NotSafe(url.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_fetched_only_where_nobody_can_exchange_them() {
        for (url, expected) in [
            ("https://login.example.org/realms/calls", true),
            ("http://127.0.0.1:8080", true),
            ("http://localhost:8080/x", true),
            ("http://[::1]:8080", true),
            ("http://login.example.org", false),
            ("http://127.0.0.1.example.org", false),
            ("ftp://login.example.org", false),
            ("login.example.org", false),
            ("", false),
        ] {
            assert_eq!(safe(url).is_ok(), expected, "{url}");
        }
    }
}
