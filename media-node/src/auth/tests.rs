//! Tokens that count and tokens that do not.

use std::{fs, path::PathBuf, time::Duration};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use super::{mint::Signer, *};
use crate::rooms::{Grants, Role};

const NOW: i64 = 1_800_000_000;

fn claims() -> Value {
    json!({
        "iss": "callplane", "aud": "callplane-media", "sub": "ann", "roomId": "default.demo", "roomUid": "u1", "epoch": 3,
        "role": "participant", "exp": NOW + 60, "iat": NOW,
    })
}

/// A directory of one test's own, removed with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("callplane-auth-{}-{test}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A verifier and the private key, as PEM, that it trusts.
fn trusted(scratch: &Scratch) -> (Verifier, Signer, String) {
    let (signer, pem) = Signer::generate().unwrap();
    let path = scratch.write("jwks.json", &signer.jwks());
    (Verifier::new(path, Duration::from_secs(3600)).unwrap(), signer, pem)
}

fn sign(pem: &str, claims: &Value) -> String {
    let key = EncodingKey::from_ec_pem(pem.as_bytes()).unwrap();
    jsonwebtoken::encode(&Header::new(Algorithm::ES256), claims, &key).unwrap()
}

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

#[tokio::test]
async fn a_token_says_who_may_do_what() {
    let scratch = Scratch::new("says");
    let (verifier, _, pem) = trusted(&scratch);
    let claims = claims();
    let access = verifier.verify(&sign(&pem, &claims), NOW).await.unwrap().access(false).unwrap();
    assert_eq!((access.room.namespace.as_str(), access.room.name.as_str()), ("default", "demo"));
    assert_eq!((access.user.as_str(), access.epoch, access.role), ("ann", 3, Role::Participant));
    assert_eq!(access.grants, Grants { publish: true, subscribe: true });
    assert_eq!(access.room_uid.as_deref(), Some("u1"));

    let mut listener = claims.clone();
    listener["grants"] = json!(["subscribe"]);
    listener["aud"] = json!(["somebody", "callplane-media"]);
    let access = verifier.verify(&sign(&pem, &listener), NOW).await.unwrap().access(false).unwrap();
    assert_eq!(access.grants, Grants { publish: false, subscribe: true });
}

#[tokio::test]
async fn claims_that_do_not_count_are_refused() {
    type Change = fn(&mut Value);
    let cases: [(AuthError, Change); 15] = [
        (AuthError::Expired, |c| c["exp"] = json!(NOW - 5)),
        (AuthError::NotYet, |c| c["iat"] = json!(NOW + 6)),
        (AuthError::NotYet, |c| c["nbf"] = json!(NOW + 6)),
        (AuthError::Lifetime { max: 3600 }, |c| c["exp"] = json!(NOW + 3601)),
        (AuthError::Lifetime { max: 3600 }, |c| c["exp"] = json!(i64::MAX)),
        (AuthError::Foreign, |c| c["iss"] = json!("somebody")),
        (AuthError::Foreign, |c| c["aud"] = json!("callplane-gateway")),
        (AuthError::Foreign, |c| drop(c.as_object_mut().unwrap().remove("aud"))),
        (AuthError::Foreign, |c| drop(c.as_object_mut().unwrap().remove("iss"))),
        (AuthError::Malformed, |c| drop(c.as_object_mut().unwrap().remove("exp"))),
        (AuthError::Malformed, |c| drop(c.as_object_mut().unwrap().remove("sub"))),
        (AuthError::Malformed, |c| drop(c.as_object_mut().unwrap().remove("epoch"))),
        (AuthError::Malformed, |c| drop(c.as_object_mut().unwrap().remove("roomId"))),
        (AuthError::Malformed, |c| c["role"] = json!("emperor")),
        (AuthError::Malformed, |c| c["exp"] = json!("soon")),
    ];
    let scratch = Scratch::new("claims");
    let (verifier, _, pem) = trusted(&scratch);
    for (expected, change) in cases {
        let mut claims = claims();
        change(&mut claims);
        let result = verifier.verify(&sign(&pem, &claims), NOW).await;
        assert_eq!(result.unwrap_err(), expected, "{claims}");
    }
    for (claim, value) in [
        ("sub", json!("")),
        ("sub", json!("a\nb")),
        ("roomId", json!("demo")),
        ("name", json!("x".repeat(300))),
        ("roomUid", json!("")),
        ("roomUid", json!("x".repeat(129))),
        ("roomUid", Value::Null),
    ] {
        let mut claims = claims();
        claims[claim] = value;
        let verified = verifier.verify(&sign(&pem, &claims), NOW).await.unwrap();
        assert_eq!(verified.access(false).unwrap_err(), AuthError::Claim(claim));
    }
    let mut early = claims();
    (early["exp"], early["iat"]) = (json!(NOW - 4), json!(NOW - 60));
    assert!(verifier.verify(&sign(&pem, &early), NOW).await.is_ok(), "clocks differ a little");
}

#[tokio::test]
async fn no_algorithm_can_be_talked_into_another() {
    let scratch = Scratch::new("algorithms");
    let (verifier, signer, pem) = trusted(&scratch);
    let good = sign(&pem, &claims());
    let payload = good.split('.').nth(1).unwrap();

    let none = format!("{}.{payload}.", part(&json!({"alg": "none"})));
    assert_eq!(verifier.verify(&none, NOW).await.unwrap_err(), AuthError::Algorithm);

    // The public key as an HMAC secret, in each form that an attacker has it in.
    let public = signer.jwks();
    let x: Value = serde_json::from_str(&public).unwrap();
    for secret in [public.as_bytes(), x["keys"][0]["x"].as_str().unwrap().as_bytes(), b""] {
        let key = EncodingKey::from_secret(secret);
        let forged = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims(), &key).unwrap();
        assert_eq!(verifier.verify(&forged, NOW).await.unwrap_err(), AuthError::Algorithm);
    }

    // A signature over something else, by somebody else, and none at all.
    let mut admin = claims();
    admin["role"] = json!("admin");
    let [header, _, signature] = good.split('.').collect::<Vec<_>>()[..] else { panic!() };
    let altered = format!("{header}.{}.{signature}", part(&admin));
    let (_, other) = Signer::generate().unwrap();
    for forged in [altered, sign(&other, &claims()), format!("{header}.{payload}.")] {
        assert_eq!(verifier.verify(&forged, NOW).await.unwrap_err(), AuthError::Foreign);
    }

    // A key that the token brings along, and extensions that must be understood.
    let header = json!({"alg": "ES256", "crit": ["b64"], "b64": false});
    let critical = format!("{}.{payload}.{signature}", part(&header));
    assert_eq!(verifier.verify(&critical, NOW).await.unwrap_err(), AuthError::Algorithm);
    for garbage in ["", "a", "a.b.c", "....", &"x".repeat(10_000)] {
        assert!(verifier.verify(garbage, NOW).await.is_err(), "{garbage}");
    }
}

#[tokio::test]
async fn keys_are_rotated_by_changing_the_file() {
    let scratch = Scratch::new("rotation");
    let (verifier, old, _) = trusted(&scratch);
    let (new, _) = Signer::generate().unwrap();
    let claims: Claims = serde_json::from_value(claims()).unwrap();
    let (old_token, new_token) = (old.token(&claims).unwrap(), new.token(&claims).unwrap());
    assert_eq!(verifier.verify(&new_token, NOW).await.unwrap_err(), AuthError::UnknownKey);

    let set = |signers: &[&Signer]| {
        let keys = signers.iter().map(|s| serde_json::from_str::<Value>(&s.jwks()).unwrap()["keys"][0].clone());
        json!({"keys": keys.collect::<Vec<_>>()}).to_string()
    };
    scratch.write("jwks.json", &set(&[&old, &new]));
    // Tokens with a key that is not known make it look again, at most once a second.
    let becomes = async |token: &str, expected: Result<(), AuthError>| {
        let settles = async {
            while verifier.verify(token, NOW).await.map(drop) != expected {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(15), settles).await.unwrap();
    };
    becomes(&new_token, Ok(())).await;
    assert!(verifier.verify(&old_token, NOW).await.is_ok(), "both are good during the rotation");

    scratch.write("jwks.json", "{");
    verifier.reload().await;
    assert!(verifier.verify(&new_token, NOW).await.is_ok(), "a broken file leaves the earlier keys good");
    scratch.write("jwks.json", &set(&[&new]));
    let reading = tokio::spawn(verifier.clone().keep_reading());
    becomes(&old_token, Err(AuthError::UnknownKey)).await;
    reading.abort();
}

#[tokio::test]
async fn keys_come_as_pem_and_as_jwks_of_both_kinds() {
    let scratch = Scratch::new("kinds");
    let (signer, _) = Signer::generate().unwrap();
    scratch.write("a.jwks", &signer.jwks());
    let ed = Ed25519KeyPair::generate().unwrap();
    let encode = |der: &[u8], what: &str| {
        let body = base64::engine::general_purpose::STANDARD.encode(der);
        format!("-----BEGIN {what}-----\n{body}\n-----END {what}-----\n")
    };
    // RFC 8410: SubjectPublicKeyInfo of Ed25519 is this prefix and the 32 bytes.
    let prefix = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
    scratch.write("edge.pem", &encode(&[&prefix, ed.public_key().as_ref()].concat(), "PUBLIC KEY"));
    scratch.write("README", "not a key");
    // What the operator lists beside the set, for gateways.
    scratch.write("previous.json", r#"[{"kty": "EC", "linksUntil": "2026-01-31T00:00:00Z"}]"#);
    scratch.write("..hidden.pem", "-----BEGIN PUBLIC KEY-----\nbroken\n-----END PUBLIC KEY-----");
    let verifier = Verifier::new(scratch.0.clone(), Duration::from_secs(3600)).unwrap();
    let claims_value = claims();
    let of_signer = signer.token(&serde_json::from_value(claims_value.clone()).unwrap()).unwrap();
    assert!(verifier.verify(&of_signer, NOW).await.is_ok());

    let private = encode(ed.to_pkcs8v1().unwrap().as_ref(), "PRIVATE KEY");
    let key = EncodingKey::from_ed_pem(private.as_bytes()).unwrap();
    for (id, result) in [(None, Ok(())), (Some("edge"), Ok(())), (Some("other"), Err(AuthError::UnknownKey))] {
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = id.map(str::to_owned);
        let token = jsonwebtoken::encode(&header, &claims_value, &key).unwrap();
        assert_eq!(verifier.verify(&token, NOW).await.map(drop), result, "{id:?}");
    }

    // A private key where a public one belongs is a mistake to be told, not a key to be used.
    let error = |path: PathBuf| Verifier::new(path, Duration::from_secs(60)).err().unwrap().to_string();
    assert!(error(scratch.write("private.pem", &private)).contains("private key"));
    assert!(error(scratch.write("empty", "")).contains("no ES256 or EdDSA public key"));
    assert!(error(scratch.0.join("absent")).contains("absent"));
}

#[test]
fn keygen_writes_a_pair_and_never_over_another() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = Scratch::new("keygen");
    let (private, public) = mint::keygen(&scratch.0).unwrap();
    assert_eq!(fs::metadata(&private).unwrap().permissions().mode() & 0o777, 0o600);
    let signer = Signer::from_pem(&fs::read_to_string(&private).unwrap()).unwrap();
    assert_eq!(signer.jwks(), fs::read_to_string(public).unwrap());
    assert!(mint::keygen(&scratch.0).is_err());
    assert!(Signer::from_pem("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----").is_err());
}
