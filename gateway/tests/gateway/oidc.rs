//! Backends with tokens of an OpenID Connect issuer, which is the test's own.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use aws_lc_rs::{
    encoding::AsDer,
    rsa::{KeyPair, KeySize},
    signature::Ed25519KeyPair,
};
use axum::{Json, Router, extract::State, http::StatusCode, routing::get};
use base64::{Engine, engine::general_purpose::STANDARD};
use callplane_gateway::access::Issuer;
use callplane_operator::{clock::Clock, keys::JoinKey};
use jsonwebtoken::{Algorithm, EncodingKey, Header, jwk::Jwk};
use serde_json::{Value, json};

use crate::world::{Answer, Setup, World};

const AUDIENCE: &str = "callplane";

/// An issuer that can be told to be away, and counts how often it was asked for its keys.
#[derive(Clone)]
struct Login {
    address: SocketAddr,
    name: Arc<Mutex<String>>,
    keys: Arc<Mutex<Vec<Value>>>,
    up: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
}

/// A key of an issuer.
struct Key {
    kid: &'static str,
    algorithm: Algorithm,
    key: EncodingKey,
}

impl Key {
    fn ec(kid: &'static str) -> Self {
        let key = EncodingKey::from_ec_pem(JoinKey::generate().unwrap().pem.as_bytes()).unwrap();
        Self { kid, algorithm: Algorithm::ES256, key }
    }

    fn rsa(kid: &'static str) -> Self {
        let der =
            AsDer::<aws_lc_rs::encoding::Pkcs8V1Der>::as_der(&KeyPair::generate(KeySize::Rsa2048).unwrap()).unwrap();
        let key = EncodingKey::from_rsa_pem(pem(der.as_ref()).as_bytes()).unwrap();
        Self { kid, algorithm: Algorithm::RS256, key }
    }

    fn ed(kid: &'static str) -> Self {
        let der = Ed25519KeyPair::generate_pkcs8v1(&aws_lc_rs::rand::SystemRandom::new()).unwrap();
        Self { kid, algorithm: Algorithm::EdDSA, key: EncodingKey::from_ed_pem(pem(der.as_ref()).as_bytes()).unwrap() }
    }

    fn public(&self) -> Value {
        let mut jwk = serde_json::to_value(Jwk::from_encoding_key(&self.key, self.algorithm).unwrap()).unwrap();
        jwk["kid"] = json!(self.kid);
        jwk["use"] = json!("sig");
        jwk
    }

    fn sign(&self, claims: &Value) -> String {
        let header = Header { kid: Some(self.kid.to_owned()), ..Header::new(self.algorithm) };
        jsonwebtoken::encode(&header, claims, &self.key).unwrap()
    }
}

fn pem(der: &[u8]) -> String {
    format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(der))
}

impl Login {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let login = Self {
            address,
            name: Arc::new(Mutex::new(format!("http://{address}"))),
            keys: Arc::default(),
            up: Arc::new(AtomicBool::new(true)),
            asked: Arc::default(),
        };
        let routes = Router::new()
            .route("/.well-known/openid-configuration", get(configuration))
            .route("/keys", get(keys))
            .with_state(login.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        login
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn has(&self, keys: &[&Key]) {
        *self.keys.lock().unwrap() = keys.iter().map(|key| key.public()).collect();
    }

    async fn world(&self) -> World {
        self.demanding(&[]).await
    }

    /// A gateway that wants more of a token than that it is for us.
    async fn demanding(&self, demands: &[&str]) -> World {
        let demands = demands.iter().map(|demand| demand.parse().unwrap()).collect();
        let issuer = Issuer { url: self.url(), audience: AUDIENCE.into(), demands, authorities: None };
        World::of(Setup { issuer: Some(issuer), ..Setup::default() }).await
    }

    /// Claims of a token that is good, with `changes`.
    fn claims(&self, changes: Value) -> Value {
        let now = Clock::start().now().wall.as_second();
        let mut claims = json!({"iss": self.url(), "aud": AUDIENCE, "sub": "crm", "iat": now, "exp": now + 300});
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        claims
    }
}

async fn configuration(State(login): State<Login>) -> Result<Json<Value>, StatusCode> {
    if !login.up.load(Ordering::SeqCst) {
        return Err(StatusCode::BAD_GATEWAY);
    }
    let name = login.name.lock().unwrap().clone();
    Ok(Json(json!({"issuer": name, "jwks_uri": format!("{}/keys", login.url())})))
}

async fn keys(State(login): State<Login>) -> Json<Value> {
    login.asked.fetch_add(1, Ordering::SeqCst);
    let strange = json!({"kty": "XYZ", "kid": "strange"});
    let mut keys = login.keys.lock().unwrap().clone();
    keys.push(strange);
    Json(json!({"keys": keys}))
}

async fn list(world: &World, token: &str) -> Answer {
    world.send("GET", "/v1/rooms", token, Value::Null).await
}

#[tokio::test]
async fn a_token_of_the_issuer_makes_a_backend_with_keys_of_each_kind() {
    let login = Login::start().await;
    let keys = [Key::rsa("one"), Key::ec("two"), Key::ed("three")];
    login.has(&keys.each_ref());
    let world = login.world().await;
    for key in &keys {
        let listed = list(&world, &key.sign(&login.claims(json!({})))).await;
        assert_eq!(listed.status, 200, "{}: {listed:?}", key.kid);
        let several = key.sign(&login.claims(json!({"aud": ["other", AUDIENCE]})));
        assert_eq!(list(&world, &several).await.status, 200);
    }
    assert_eq!(login.asked.load(Ordering::SeqCst), 1, "keys that are known are not fetched again");

    // API keys and join tokens are good beside it.
    let _node = world.placed("team", "standup").await;
    let bob = world.token("team.standup", "bob", "participant").await;
    assert_eq!(world.send("GET", "/v1/rooms/team.standup", &bob, Value::Null).await.status, 200);
    assert_eq!(list(&world, &bob).await.code(), "not-permitted");
}

#[tokio::test]
async fn what_the_issuer_did_not_make_for_us_is_refused() {
    let login = Login::start().await;
    let (key, other) = (Key::ec("one"), Key::ec("one"));
    login.has(&[&key]);
    let world = login.world().await;
    let hmac = jsonwebtoken::encode(
        &Header { kid: Some("one".into()), ..Header::new(Algorithm::HS256) },
        &login.claims(json!({})),
        &EncodingKey::from_secret(key.public()["x"].as_str().unwrap().as_bytes()),
    );
    for (token, code) in [
        (key.sign(&login.claims(json!({"aud": "other"}))), "credentials-invalid"),
        (key.sign(&login.claims(json!({"aud": null}))), "credentials-invalid"),
        (key.sign(&login.claims(json!({"iss": "https://login.example.org"}))), "credentials-invalid"),
        (key.sign(&login.claims(json!({"sub": ""}))), "credentials-invalid"),
        (key.sign(&login.claims(json!({"sub": "a\nb"}))), "credentials-invalid"),
        (key.sign(&login.claims(json!({"exp": null}))), "credentials-invalid"),
        (key.sign(&login.claims(json!({"nbf": 4_000_000_000_i64}))), "credentials-invalid"),
        (key.sign(&login.claims(json!({"exp": 1_000_000_000}))), "credentials-expired"),
        (other.sign(&login.claims(json!({}))), "credentials-invalid"),
        (Key::rsa("one").sign(&login.claims(json!({}))), "credentials-invalid"),
        (hmac.unwrap(), "credentials-invalid"),
    ] {
        let refused = list(&world, &token).await;
        assert_eq!((refused.status, refused.code()), (401, code), "{token}");
    }
}

#[tokio::test]
async fn a_token_without_the_scope_and_role_that_are_demanded_makes_no_backend() {
    let login = Login::start().await;
    let key = Key::ec("one");
    login.has(&[&key]);
    let world = login.demanding(&["scope=callplane.rooms", "realm_access.roles=backend"]).await;
    let with =
        |scope: Value, roles: Value| key.sign(&login.claims(json!({"scope": scope, "realm_access": {"roles": roles}})));
    let good = list(&world, &with(json!("openid callplane.rooms"), json!(["backend"]))).await;
    assert_eq!(good.status, 200, "{good:?}");
    for (token, lacks) in [
        (key.sign(&login.claims(json!({}))), "claim scope has no callplane.rooms"),
        (with(json!("callplane"), json!(["backend"])), "claim scope has no callplane.rooms"),
        (with(json!("callplane.rooms"), json!(["reader"])), "claim realm_access.roles has no backend"),
    ] {
        let refused = list(&world, &token).await;
        assert_eq!((refused.status, refused.code()), (403, "insufficient-scope"), "{refused:?}");
        assert_eq!(refused.headers["www-authenticate"], "Bearer error=\"insufficient_scope\"");
        assert!(refused.text("detail").ends_with(lacks), "{refused:?}");
    }
    // What it lacks is told to those only whose token is good.
    let stale = login.claims(json!({"exp": 1_000_000_000}));
    assert_eq!(list(&world, &key.sign(&stale)).await.code(), "credentials-expired");
    let forged = Key::ec("one").sign(&login.claims(json!({"scope": "callplane.rooms"})));
    assert_eq!(list(&world, &forged).await.code(), "credentials-invalid");
    assert_eq!(world.backend("GET", "/v1/rooms", Value::Null).await.status, 200, "API keys have no scopes");
}

#[tokio::test]
async fn a_new_key_is_fetched_when_a_token_names_it_but_not_at_every_strangers_wish() {
    let login = Login::start().await;
    let (old, new) = (Key::ec("old"), Key::ec("new"));
    login.has(&[&old]);
    let world = login.world().await;
    let token = old.sign(&login.claims(json!({})));
    assert_eq!(list(&world, &token).await.status, 200);
    login.has(&[&old, &new]);
    for n in 0..20 {
        let stranger = Key { kid: "stranger", ..Key::ec("x") };
        let refused = list(&world, &stranger.sign(&login.claims(json!({"n": n})))).await;
        assert_eq!(refused.code(), "credentials-invalid");
    }
    assert_eq!(login.asked.load(Ordering::SeqCst), 1, "a moment ago it was asked");
    // The issuer is away: what is known goes on.
    login.up.store(false, Ordering::SeqCst);
    let mut later = world.gateway.clock.now();
    later.mono += std::time::Duration::from_secs(11);
    let oidc = world.gateway.oidc.clone().unwrap();
    let named = new.sign(&login.claims(json!({})));
    oidc.prepare(&named, later).await;
    assert_eq!(list(&world, &token).await.status, 200);
    assert_eq!(list(&world, &named).await.code(), "credentials-invalid");
    // It is back.
    login.up.store(true, Ordering::SeqCst);
    later.mono += std::time::Duration::from_secs(11);
    let stampede = futures::future::join_all((0..20).map(|_| oidc.prepare(&named, later))).await;
    assert_eq!((stampede.len(), login.asked.load(Ordering::SeqCst)), (20, 2), "one asks for all");
    assert_eq!(list(&world, &named).await.status, 200);
}

#[tokio::test]
async fn an_issuer_that_was_never_there_or_calls_itself_otherwise_is_said_to_be_unavailable() {
    let login = Login::start().await;
    let key = Key::ec("one");
    login.has(&[&key]);
    login.up.store(false, Ordering::SeqCst);
    let token = key.sign(&login.claims(json!({})));
    let world = login.world().await;
    let refused = list(&world, &token).await;
    assert_eq!((refused.status, refused.code()), (503, "issuer-unavailable"));
    assert_eq!(refused.headers["retry-after"], "5");
    assert_eq!(world.backend("GET", "/v1/rooms", Value::Null).await.status, 200, "API keys need no issuer");

    login.up.store(true, Ordering::SeqCst);
    *login.name.lock().unwrap() = "https://other.example.org".into();
    let world = login.world().await;
    assert_eq!(list(&world, &token).await.code(), "issuer-unavailable");
}
