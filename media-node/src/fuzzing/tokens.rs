//! Join tokens: forged ones never count, and those of a trusted key only with claims that can be.

use std::sync::LazyLock;
use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};

use crate::auth::{AuthError, Claims, Verifier, mint::Signer};

/// The longest that a token may be good for, in seconds: longer than any run.
pub(super) const LIFETIME: i64 = 30 * 86_400;

/// A key that this process has made, and who trusts it. No input can have been signed with it.
pub(super) static TRUSTED: LazyLock<Trusted> = LazyLock::new(|| {
    let (signer, pem) = Signer::generate().expect("a key can be made");
    let path = std::env::temp_dir().join(format!("callplane-fuzz-{}.json", std::process::id()));
    std::fs::write(&path, signer.jwks()).expect("the temporary directory can be written to");
    let lifetime = Duration::from_secs(LIFETIME.unsigned_abs());
    let verifier = Verifier::new(path.clone(), lifetime).expect("the keys can be read");
    // Keys that cannot be read again stay as they are.
    std::fs::remove_file(path).expect("it is there");
    let set: Value = serde_json::from_str(&signer.jwks()).expect("a JWK set is JSON");
    let kid = set["keys"][0]["kid"].as_str().expect("the key has an id").to_owned();
    let key = EncodingKey::from_ec_pem(pem.as_bytes()).expect("it is a P-256 key");
    Trusted { verifier, kid, key }
});

pub(super) struct Trusted {
    pub(super) verifier: Verifier,
    kid: String,
    key: EncodingKey,
}

impl Trusted {
    /// A token with these claims.
    pub(super) fn sign(&self, claims: &Value) -> String {
        let header = json!({"alg": "ES256", "typ": "JWT", "kid": self.kid});
        self.sign_raw(header.to_string().as_bytes(), claims.to_string().as_bytes())
    }

    /// A token of whatever is said to be its header and its claims, with a good signature over both.
    fn sign_raw(&self, header: &[u8], claims: &[u8]) -> String {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &self.key, Algorithm::ES256);
        format!("{signed}.{}", signature.expect("the key signs"))
    }

    /// What the verifier says at that time.
    fn verify(&self, token: &str, now: i64) -> Result<Claims, AuthError> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("it needs nothing");
        runtime.block_on(self.verifier.verify(token, now))
    }
}

/// The first byte says what the rest is: a whole token, the claims of one that is signed, or its header, or its signature.
pub(super) fn tokens(data: &[u8]) {
    const NOW: i64 = 1_800_000_000;
    let Some((what, rest)) = data.split_first() else { return };
    let text = String::from_utf8_lossy(rest).replace("$kid", &TRUSTED.kid);
    let good = json!({
        "iss": "callplane", "aud": "callplane-media", "sub": "ann", "roomId": "default.demo", "roomUid": "u", "epoch": 1,
        "role": "participant", "iat": NOW, "exp": NOW + 60,
    });
    match what & 3 {
        0 => assert!(TRUSTED.verify(&text, NOW).is_err(), "a token that nobody has signed"),
        1 => {
            let header = json!({"alg": "ES256", "kid": TRUSTED.kid}).to_string();
            let Ok(claims) = TRUSTED.verify(&TRUSTED.sign_raw(header.as_bytes(), text.as_bytes()), NOW) else { return };
            assert!(claims.exp > NOW - 60 && claims.exp.saturating_sub(claims.iat) <= LIFETIME, "{claims:?}");
            for standalone in [false, true] {
                let Ok(access) = claims.clone().access(standalone) else { continue };
                assert!((1..=128).contains(&access.user.len()) && !access.user.contains(char::is_control));
                assert!(access.name.is_none_or(|name| !name.contains(char::is_control)));
                assert_eq!((access.room_uid.is_none(), access.room.namespace.is_empty()), (standalone, standalone));
                assert!(!access.room.name.is_empty());
            }
        }
        2 => {
            let token = TRUSTED.sign_raw(text.as_bytes(), good.to_string().as_bytes());
            if TRUSTED.verify(&token, NOW).is_ok() {
                let header: Value = serde_json::from_str(&text).expect("what was accepted is JSON");
                assert_eq!((&header["alg"], header.get("crit")), (&json!("ES256"), None), "{header}");
            }
        }
        _ => {
            let token = TRUSTED.sign(&good);
            let (signed, signature) = token.rsplit_once('.').expect("a token has three parts");
            let forged = URL_SAFE_NO_PAD.encode(rest);
            let result = TRUSTED.verify(&format!("{signed}.{forged}"), NOW);
            assert!(result.is_err() || forged == signature, "a signature that nobody has made");
        }
    }
}
