//! Passwords of rooms: what is kept of them, and how many are looked at a time.
//!
//! Of a password an argon2id hash is kept, in an annotation of the CallRoom. It is made with a key that only gateways read, so
//! whoever may read CallRooms cannot even try guesses against it (docs/decisions/room-passwords.md).

use std::{fmt, sync::Arc, time::Duration};

use argon2::{Algorithm, Argon2, Params, PasswordHash, PasswordHasher, PasswordVerifier, Version};
use aws_lc_rs::{hmac, rand};
use serde::Deserialize;
use tokio::sync::{OnceCell, Semaphore};

use crate::{Code, Problem, cluster::Secrets};

/// Secret that holds the key. The gateway that first needs it makes it, and nobody ever replaces it.
const SECRET: &str = "callplane-room-passwords";
/// Key in the Secret.
const KEY: &str = "key";
/// Bytes of the key.
const KEY_LENGTH: usize = 32;
/// How soon the key is looked for again when the API server is away.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// Hashes that are computed at a time: each takes a processor for tens of milliseconds, and 19 MiB.
const AT_A_TIME: usize = 2;
/// Requests that may wait for their turn, a second or two. Others are told to come again.
const WAITING: usize = 64;
/// Longest password in bytes.
pub const MAX_PASSWORD: usize = 128;
/// Most memory in KiB and most passes that a hash may ask for: who can write an annotation is to stall no gateway.
const MAX_MEMORY: u32 = 64 * 1024;
const MAX_PASSES: u32 = 4;

/// A password as somebody gave it: 1 to 128 bytes without control characters. Does not show itself.
#[derive(Clone, Deserialize)]
#[serde(try_from = "String")]
pub struct Password(String);

impl TryFrom<String> for Password {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match (1..=MAX_PASSWORD).contains(&text.len()) && !text.chars().any(char::is_control) {
            true => Ok(Self(text)),
            false => Err(format!("a password is 1 to {MAX_PASSWORD} bytes without control characters")),
        }
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(not shown)")
    }
}

/// Hashes passwords and checks them. Clones are the same.
#[derive(Clone)]
pub struct Passwords(Arc<Inner>);

struct Inner {
    secrets: Secrets,
    key: OnceCell<[u8; KEY_LENGTH]>,
    turns: Arc<Semaphore>,
    waiting: Semaphore,
}

impl Passwords {
    /// With the key in Secret `callplane-room-passwords`.
    pub fn new(secrets: Secrets) -> Self {
        let (turns, waiting) = (Arc::new(Semaphore::new(AT_A_TIME)), Semaphore::new(WAITING));
        Self(Arc::new(Inner { secrets, key: OnceCell::new(), turns, waiting }))
    }

    /// Looks for the key at once, so that it is known when the API server is away later. Goes on for as long as it is polled.
    pub async fn keep_ready(self) {
        while let Err(problem) = self.known_key().await {
            // Without any room that has a password there is no key, which is fine.
            if problem.code() == Code::NoPasswordKey {
                break;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        std::future::pending().await
    }

    /// What is kept of `password`.
    ///
    /// # Errors
    /// [`Code::RateLimited`] when too many ask at once, [`Code::KubernetesUnavailable`], [`Code::KubernetesRefused`].
    pub async fn hash(&self, password: &Password) -> Result<String, Problem> {
        let key = self.key().await?;
        let mut salt = [0; 16];
        rand::fill(&mut salt).map_err(|_| Problem::new(Code::Busy, "there is no randomness"))?;
        let password = password.clone();
        let hash = self.in_turn(move || {
            let hash = argon2(&key)?.hash_password_with_salt(password.0.as_bytes(), &salt).ok()?;
            Some(hash.to_string())
        });
        hash.await?.ok_or_else(|| Problem::new(Code::Busy, "the password could not be hashed"))
    }

    /// Whether `hash` was made of `password`. A hash that is none is nobody's.
    ///
    /// # Errors
    /// [`Code::RateLimited`] when too many ask at once, [`Code::NoPasswordKey`], [`Code::KubernetesUnavailable`].
    pub async fn verify(&self, hash: &str, password: &Password) -> Result<bool, Problem> {
        let key = self.known_key().await?;
        let (hash, password) = (hash.to_owned(), password.clone());
        self.in_turn(move || is_of(&key, &hash, &password)).await
    }

    /// By what a request that names the password is known again: nobody without the key can tell which password it was.
    ///
    /// # Errors
    /// [`Code::KubernetesUnavailable`], [`Code::KubernetesRefused`].
    pub async fn mark(&self, password: &Password) -> Result<String, Problem> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.key().await?);
        let tag = hmac::sign(&key, password.0.as_bytes());
        Ok(tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The key; a new one if there is none.
    async fn key(&self) -> Result<[u8; KEY_LENGTH], Problem> {
        match self.known_key().await {
            Err(problem) if problem.code() == Code::NoPasswordKey => {}
            known => return known,
        }
        let mut key = [0; KEY_LENGTH];
        rand::fill(&mut key).map_err(|_| Problem::new(Code::Busy, "there is no randomness"))?;
        // If another replica was first, its key is the key.
        if self.0.secrets.create(SECRET, KEY, &key).await? {
            tracing::info!(secret = SECRET, "made the key of room passwords");
        }
        self.known_key().await
    }

    /// The key, if there is one.
    async fn known_key(&self) -> Result<[u8; KEY_LENGTH], Problem> {
        let read = || async {
            let gone = |why: &str| Problem::new(Code::NoPasswordKey, format!("Secret {SECRET} {why}"));
            let bytes = self.0.secrets.read(SECRET, KEY).await?.ok_or_else(|| gone("is not there"))?;
            <[u8; KEY_LENGTH]>::try_from(bytes.as_slice()).map_err(|_| gone("holds no key of 32 bytes"))
        };
        self.0.key.get_or_try_init(read).await.copied()
    }

    /// The outcome of `work`, on a thread of its own, when it is its turn. Once begun it keeps its place until it is done, also
    /// when nobody waits for it any more.
    async fn in_turn<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Problem> {
        let busy = || Problem::new(Code::RateLimited, "too many passwords are looked at just now").retry_after(1);
        let waits = self.0.waiting.try_acquire().map_err(|_| busy())?;
        let turn = Arc::clone(&self.0.turns).acquire_owned().await.map_err(|_| busy())?;
        drop(waits);
        let work = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work()
        });
        work.await.map_err(|_| busy())
    }
}

/// With the parameters that OWASP names first for argon2id: 19 MiB, two passes, one lane.
fn argon2(key: &[u8]) -> Option<Argon2<'_>> {
    Argon2::new_with_secret(key, Algorithm::Argon2id, Version::V0x13, Params::default()).ok()
}

fn is_of(key: &[u8], hash: &str, password: &Password) -> bool {
    let Ok(hash) = PasswordHash::new(hash) else { return false };
    let Ok(params) = Params::try_from(&hash) else { return false };
    if hash.algorithm != Algorithm::Argon2id.ident() || params.m_cost() > MAX_MEMORY || params.t_cost() > MAX_PASSES {
        return false;
    }
    argon2(key).is_some_and(|argon2| argon2.verify_password(password.0.as_bytes(), &hash).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(text: &str) -> Password {
        Password::try_from(text.to_owned()).unwrap()
    }

    #[test]
    fn a_hash_is_of_its_password_and_key_and_nothing_else() {
        let (key, other) = ([1; KEY_LENGTH], [2; KEY_LENGTH]);
        let hash =
            |salt: [u8; 16]| argon2(&key).unwrap().hash_password_with_salt(b"open sesame", &salt).unwrap().to_string();
        let kept = hash([7; 16]);
        assert!(kept.starts_with("$argon2id$v=19$m=19456,t=2,p=1$") && kept != hash([8; 16]), "{kept}");
        assert!(is_of(&key, &kept, &password("open sesame")));
        assert!(!is_of(&key, &kept, &password("open Sesame")));
        assert!(!is_of(&other, &kept, &password("open sesame")), "without the key no guess is right");
        for spoilt in [
            "",
            "open sesame",
            &kept.replace("argon2id", "argon2i"),
            &kept.replace("m=19456", "m=4194304"),
            &kept.replace("t=2", "t=2000000"),
        ] {
            assert!(!is_of(&key, spoilt, &password("open sesame")), "{spoilt}");
        }
    }

    #[test]
    fn a_password_is_bounded_and_does_not_show_itself() {
        assert!(Password::try_from(String::new()).is_err());
        assert!(Password::try_from("a".repeat(MAX_PASSWORD + 1)).is_err());
        assert!(Password::try_from("a\nb".to_owned()).is_err());
        assert_eq!(format!("{:?}", password("open sesame")), "Password(not shown)");
    }
}
