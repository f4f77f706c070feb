//! The key that signs join tokens and share links, from a mounted Secret that may change.

use std::{
    fs, io,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use callplane_crds::names::TOKEN_ISSUER;
use callplane_operator::{
    clock::{Clock, Now},
    keys::{JoinKey, PRIVATE},
};
use jiff::Timestamp;
use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, Header, Validation,
    jwk::{Jwk, JwkSet},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{Code, Problem};

/// How often the directory is read again.
const RELOAD: Duration = Duration::from_secs(5);
/// How long a key that was replaced is still believed and published: longer than any join token lives.
const OVERLAP: Duration = Duration::from_secs(900);
/// Clock skew that is forgiven, in seconds.
const LEEWAY: i64 = 5;
/// Longest token that is looked at.
const MAX_TOKEN: usize = 8 * 1024;
/// Longest private key that is read.
const MAX_KEY: u64 = 16 * 1024;

/// Signs and verifies. Clones are the same.
#[derive(Clone)]
pub struct Signer {
    directory: PathBuf,
    keys: Arc<RwLock<Keys>>,
}

#[derive(Default)]
struct Keys {
    current: Option<Arc<JoinKey>>,
    /// Public keys, the current one first, with the time until which each is good.
    public: Vec<(Jwk, Option<Duration>)>,
}

/// When a token is good.
#[derive(Deserialize)]
struct Times {
    iat: i64,
    exp: i64,
}

impl Signer {
    /// With `private.pem` of `directory`. When it is not there it may come.
    pub fn new(directory: PathBuf, now: Now) -> Self {
        let signer = Self { directory, keys: Arc::default() };
        signer.reload(now);
        signer
    }

    /// Reads the key again for as long as it is polled. What cannot be read leaves the earlier one good.
    pub async fn keep_reading(self, clock: Clock) {
        loop {
            tokio::time::sleep(RELOAD).await;
            self.reload(clock.now());
        }
    }

    pub(crate) fn reload(&self, now: Now) {
        let key = match self.read() {
            Ok(key) => key,
            Err(error) => {
                tracing::warn!(%error, "no key of join tokens could be read");
                return;
            }
        };
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        keys.public.retain(|(_, until)| until.is_none_or(|until| until > now.mono));
        if keys.current.as_ref().is_some_and(|current| current.kid == key.kid) {
            return;
        }
        let Ok(set) = serde_json::from_str::<JwkSet>(&key.jwks()) else { return };
        tracing::info!(kid = key.kid, "the key of join tokens");
        for (_, until) in &mut keys.public {
            until.get_or_insert(now.mono + OVERLAP);
        }
        keys.public.splice(0..0, set.keys.into_iter().map(|jwk| (jwk, None)));
        keys.current = Some(Arc::new(key));
    }

    fn read(&self) -> Result<JoinKey, io::Error> {
        let path = self.directory.join(PRIVATE);
        if fs::metadata(&path)?.len() > MAX_KEY {
            return Err(io::Error::other("private.pem is too long to be a key"));
        }
        JoinKey::from_pem(&fs::read_to_string(&path)?).map_err(io::Error::other)
    }

    /// The key to sign with.
    ///
    /// # Errors
    /// [`Code::NoSigningKey`].
    pub fn key(&self) -> Result<Arc<JoinKey>, Problem> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.current.clone().ok_or_else(|| Problem::new(Code::NoSigningKey, "there is no key to sign tokens with yet"))
    }

    /// Whether there is a key.
    pub fn is_ready(&self) -> bool {
        self.key().is_ok()
    }

    /// The public halves, those that were replaced a moment ago included.
    pub fn jwks(&self) -> JwkSet {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        JwkSet { keys: keys.public.iter().map(|(jwk, _)| jwk.clone()).collect() }
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

    /// What `token` says, if one of our keys signed it for `audience` and it is good at `now`.
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
        let set = self.jwks();
        let jwk = header.kid.as_deref().and_then(|kid| set.find(kid)).ok_or_else(foreign)?;
        let key = DecodingKey::from_jwk(jwk).map_err(|_| foreign())?;
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

#[cfg(test)]
mod tests {
    use callplane_crds::names::TOKEN_AUDIENCE;
    use callplane_operator::token::{self, Invitation};

    use super::*;
    use crate::{
        access::{JoinClaims, LinkClaims, LinkId, Role, claims::LINK_AUDIENCE},
        testing::Scratch,
    };

    fn at(seconds: i64) -> Now {
        Now {
            mono: Duration::from_secs(seconds.unsigned_abs()),
            wall: Timestamp::from_second(1_800_000_000 + seconds).unwrap(),
        }
    }

    fn join_token(signer: &Signer, now: Now) -> String {
        let invitation = Invitation {
            room: "team.standup".parse().unwrap(),
            user: "ann".into(),
            name: None,
            role: "host".into(),
            ttl: Duration::from_secs(600),
        };
        token::sign(&signer.key().unwrap(), &invitation, "", 3, now.wall).unwrap()
    }

    #[test]
    fn a_replaced_key_is_believed_for_as_long_as_its_tokens_may_live_and_no_longer() {
        let scratch = Scratch::new();
        let signer = Signer::new(scratch.path().to_owned(), at(0));
        assert_eq!(signer.key().unwrap_err().code(), Code::NoSigningKey);
        let write = |key: &JoinKey| fs::write(scratch.path().join(PRIVATE), &key.pem).unwrap();
        write(&JoinKey::generate().unwrap());
        signer.reload(at(1));
        let old = join_token(&signer, at(1));
        write(&JoinKey::generate().unwrap());
        signer.reload(at(2));
        assert_eq!(signer.jwks().keys.len(), 2);
        let claims: JoinClaims = signer.verify(&old, TOKEN_AUDIENCE, at(599).wall).unwrap();
        assert_eq!((claims.sub.as_str(), claims.epoch), ("ann", 3));
        let expired = signer.verify::<JoinClaims>(&old, TOKEN_AUDIENCE, at(700).wall).unwrap_err();
        assert_eq!(expired.code(), Code::CredentialsExpired);
        signer.reload(at(2 + 901));
        assert_eq!(signer.jwks().keys.len(), 1);
        assert!(signer.verify::<JoinClaims>(&old, TOKEN_AUDIENCE, at(3).wall).is_err());
        fs::write(scratch.path().join(PRIVATE), "nonsense").unwrap();
        signer.reload(at(1000));
        assert!(signer.is_ready(), "a broken file takes no key away");
    }

    #[test]
    fn tokens_are_good_for_what_they_were_made_for_and_nothing_else() {
        let scratch = Scratch::with_join_key();
        let signer = Signer::new(scratch.path().to_owned(), at(0));
        let join = join_token(&signer, at(0));
        let id = LinkId::new(at(3600).wall.as_second(), [7; 8]);
        let room = "team.standup".parse().unwrap();
        let claims = LinkClaims::new(&room, "uid".into(), Role::Guest, id, at(0).wall.as_second());
        let link = signer.sign(&claims).unwrap();
        assert_eq!(signer.verify::<LinkClaims>(&link, LINK_AUDIENCE, at(1).wall).unwrap(), claims);
        for (token, audience) in [(&link, TOKEN_AUDIENCE), (&join, LINK_AUDIENCE)] {
            let refused = signer.verify::<serde_json::Value>(token, audience, at(1).wall).unwrap_err();
            assert_eq!(refused.code(), Code::CredentialsInvalid);
        }
        let elsewhere = Scratch::with_join_key();
        let stranger = Signer::new(elsewhere.path().to_owned(), at(0));
        let unsigned = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbm4ifQ.";
        let mut altered = join.clone();
        let place = altered.len() - 40..altered.len() - 39;
        let other = if &altered[place.clone()] == "A" { "B" } else { "A" };
        altered.replace_range(place, other);
        let forged = [join_token(&stranger, at(0)), unsigned.into(), "a.b.c".into(), "x".repeat(9000), altered];
        for token in forged {
            let refused = signer.verify::<JoinClaims>(&token, TOKEN_AUDIENCE, at(1).wall).unwrap_err();
            assert_eq!(refused.code(), Code::CredentialsInvalid, "{token}");
        }
        let early = signer.verify::<JoinClaims>(&join, TOKEN_AUDIENCE, at(-60).wall).unwrap_err();
        assert_eq!(early.code(), Code::CredentialsInvalid);
    }
}
