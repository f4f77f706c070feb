//! Who may do what.

use std::time::Duration;

use callplane_gateway::access::{LinkClaims, LinkId, Role};
use callplane_operator::keys::{JoinKey, Previous, Public};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use crate::world::{API_KEY, World, answer, rate};

const JOIN: &str = "/v1/rooms/team.standup/join";
const LINKS: &str = "/v1/rooms/team.standup/links";

#[tokio::test]
async fn without_good_credentials_nothing_is_done_or_told() {
    let world = World::new().await;
    let _node = world.placed("team", "standup").await;
    let bob = world.token("team.standup", "bob", "participant").await;
    let flipped = if bob.as_bytes()[bob.len() - 9] == b'A' { "B" } else { "A" };
    let forged = format!("{}{flipped}{}", &bob[..bob.len() - 9], &bob[bob.len() - 8..]);
    for (method, path, body) in [
        ("POST", "/v1/rooms", json!({"hostId": "ann"})),
        ("GET", "/v1/rooms", Value::Null),
        ("GET", "/v1/rooms/team.standup", Value::Null),
        ("GET", "/v1/rooms/team.nothing", Value::Null),
        ("POST", JOIN, json!({"userId": "bob"})),
        ("POST", JOIN, Value::Null),
        ("POST", "/v1/rooms/team.standup/leave", json!({})),
        ("PUT", "/v1/rooms/team.standup/end", Value::Null),
        ("PUT", "/v1/rooms/team.standup/lock", json!({"locked": true})),
        ("POST", LINKS, json!({})),
        ("DELETE", &format!("{LINKS}/1-0000000000000000"), Value::Null),
    ] {
        let missing = world.send(method, path, "", body.clone()).await;
        assert_eq!((missing.status, missing.code()), (401, "credentials-missing"), "{method} {path}");
        assert_eq!(missing.headers["www-authenticate"], "Bearer");
        for bad in ["x", "0123456789abcdef0123456789abcdeF", "a.b.c", &forged] {
            let refused = world.send(method, path, bad, body.clone()).await;
            assert_eq!((refused.status, refused.code()), (401, "credentials-invalid"), "{method} {path} {bad}");
        }
    }
    for (method, path, body) in [
        ("POST", "/v1/rooms", json!({"hostId": "ann"})),
        ("GET", "/v1/rooms", Value::Null),
        ("POST", JOIN, json!({"userId": "bob"})),
        ("PUT", "/v1/rooms/team.standup/lock", json!({"locked": true})),
        ("POST", LINKS, json!({})),
    ] {
        assert_eq!(world.send(method, path, &bob, body).await.code(), "not-permitted", "{method} {path}");
    }
    assert_eq!(world.kubernetes.count("PATCH") + world.kubernetes.count("POST"), 0);
}

#[tokio::test]
async fn a_share_link_lets_guests_in_as_what_it_says_until_it_is_revoked() {
    let world = World::new().await;
    let _node = world.placed("team", "standup").await;
    let host = world.token("team.standup", "ann", "host").await;
    let made = world.send("POST", LINKS, &host, json!({"role": "guest", "expiresInSeconds": 3600})).await;
    assert_eq!((made.status, made.text("role")), (201, "guest".into()), "{made:?}");
    let link = made.text("linkToken");
    let join = |body: Value| world.send("POST", JOIN, "", body);
    let (one, two) =
        (join(json!({"linkToken": link, "displayName": "Eve"})).await, join(json!({"linkToken": link})).await);
    assert_eq!((one.status, one.text("role")), (200, "guest".into()), "{one:?}");
    assert!(one.text("userId").starts_with("guest-") && one.text("userId") != two.text("userId"));
    for (field, value) in [("userId", "ann"), ("role", "host"), ("consentToken", "x.y.z")] {
        let refused = join(json!({"linkToken": link, field: value})).await;
        assert_eq!(refused.body["field"], field, "{refused:?}");
    }
    assert_eq!(world.backend("POST", JOIN, json!({"userId": one.text("userId")})).await.body["field"], "userId");
    // A link is no join token, and a join token is no link.
    assert_eq!(world.send("GET", "/v1/rooms/team.standup", &link, Value::Null).await.code(), "credentials-invalid");
    assert_eq!(join(json!({"linkToken": host})).await.code(), "credentials-invalid");
    let elsewhere = world.send("POST", "/v1/rooms/team.other/join", "", json!({"linkToken": link})).await;
    assert_eq!(elsewhere.code(), "wrong-room");
    let guest = one.text("token");
    assert_eq!(world.send("PUT", "/v1/rooms/team.standup/end", &guest, Value::Null).await.code(), "not-permitted");
    assert_eq!(world.send("POST", LINKS, &guest, json!({})).await.code(), "not-permitted");

    let other = world.backend("POST", LINKS, json!({"role": "participant"})).await;
    let path = format!("{LINKS}/{}", made.text("linkId"));
    for _ in 0..2 {
        assert_eq!(world.send("DELETE", &path, &host, Value::Null).await.status, 204);
    }
    world.knows("team", "standup").await;
    let refused = join(json!({"linkToken": link})).await;
    assert_eq!((refused.status, refused.code()), (403, "link-revoked"));
    let still = join(json!({"linkToken": other.text("linkToken")})).await;
    assert_eq!(still.text("role"), "participant");
    assert!(!world.kubernetes.dump().contains("eyJ"), "no token gets into an object");

    // Another room of the same name is another room.
    world.kubernetes.delete("callrooms", "team", "standup");
    world.kubernetes.room("team", "standup");
    world.kubernetes.place("team", "standup", "mn-a", 1);
    world.knows("team", "standup").await;
    assert_eq!(join(json!({"linkToken": other.text("linkToken")})).await.code(), "link-revoked");

    for (body, field) in [
        (json!({"role": "host"}), "role"),
        (json!({"expiresInSeconds": 59}), "expiresInSeconds"),
        (json!({"expiresInSeconds": 2_592_001}), "expiresInSeconds"),
        (json!({"uses": 1}), "uses"),
    ] {
        assert_eq!(world.backend("POST", LINKS, body).await.body["field"], field);
    }
    assert_eq!(world.backend("DELETE", &format!("{LINKS}/1,2"), Value::Null).await.body["field"], "linkId");
}

#[tokio::test]
async fn a_share_link_is_good_until_it_ends_and_nobody_else_makes_one() {
    let world = World::new().await;
    let _node = world.placed("team", "standup").await;
    let uid = world.kubernetes.object("callrooms", "team", "standup").unwrap()["metadata"]["uid"].clone();
    let now = world.gateway.clock.now().wall.as_second();
    let claims = |ends: i64, role: Role| {
        let id = LinkId::new(now + ends, [7; 8]);
        LinkClaims::new(&"team.standup".parse().unwrap(), uid.as_str().unwrap().to_owned(), role, id, now - 3600)
    };
    let ours = |ends: i64| world.gateway.signer.sign(&claims(ends, Role::Guest)).unwrap();
    let join = |link: String| world.send("POST", JOIN, "", json!({"linkToken": link}));
    assert_eq!(join(ours(600)).await.text("role"), "guest", "so it is made");

    let kid = world.gateway.signer.jwks().keys[0].common.key_id.clone();
    let header = Header { kid, ..Header::new(Algorithm::ES256) };
    let stranger = EncodingKey::from_ec_pem(JoinKey::generate().unwrap().pem.as_bytes()).unwrap();
    let forged = jsonwebtoken::encode(&header, &claims(600, Role::Guest), &stranger).unwrap();
    // What one token says behind the signature of another.
    let with = |payload: &str, of: &str| {
        let (payload, of) = (payload.split('.').nth(1).unwrap(), of.split('.').collect::<Vec<_>>());
        format!("{}.{payload}.{}", of[0], of[2])
    };
    let host = world.gateway.signer.sign(&claims(600, Role::Host)).unwrap();
    for (link, code) in [
        (ours(-300), "credentials-expired"),
        (with(&ours(600), &ours(-300)), "credentials-invalid"),
        (with(&host, &ours(600)), "credentials-invalid"),
        (forged, "credentials-invalid"),
        (host, "credentials-invalid"),
    ] {
        let refused = join(link.clone()).await;
        assert_eq!((refused.status, refused.code()), (401, code), "{link}");
        let body = json!({"meetingId": "team.standup", "consentType": "recording_ai", "status": "accepted", "linkToken": link});
        assert_eq!(world.send("POST", "/v1/users/consent", "", body).await.code(), code, "{link}");
    }
}

#[tokio::test]
async fn revocations_and_locks_at_the_same_time_lose_nothing() {
    let world = World::new().await;
    let _node = world.placed("team", "standup").await;
    let mut links = Vec::new();
    for _ in 0..3 {
        links.push(world.backend("POST", LINKS, json!({})).await.text("linkId"));
    }
    let paths: Vec<_> = links.iter().map(|link| format!("{LINKS}/{link}")).collect();
    let revoke = |n: usize| world.backend("DELETE", &paths[n], Value::Null);
    let lock = world.backend("PUT", "/v1/rooms/team.standup/lock", json!({"locked": true}));
    let (a, b, c, locked) = tokio::join!(revoke(0), revoke(1), revoke(2), lock);
    assert_eq!([a.status, b.status, c.status, locked.status], [204, 204, 204, 200]);
    let room = world.kubernetes.object("callrooms", "team", "standup").unwrap();
    let annotations = &room["metadata"]["annotations"];
    let revoked = annotations["callplane.io/revoked-links"].as_str().unwrap();
    assert!(links.iter().all(|link| revoked.contains(link.as_str())), "{revoked}");
    assert_eq!(annotations["callplane.io/locked"], "true");
}

#[tokio::test]
async fn a_locked_room_lets_only_its_hosts_in() {
    let world = World::new().await;
    let _node = world.placed("team", "standup").await;
    let lock = |locked: bool| world.backend("PUT", "/v1/rooms/team.standup/lock", json!({"locked": locked}));
    assert_eq!(lock(true).await.body["locked"], true);
    world.knows("team", "standup").await;
    assert_eq!(world.backend("POST", JOIN, json!({"userId": "bob"})).await.code(), "room-locked");
    world.token("team.standup", "ann", "host").await;
    assert_eq!(lock(false).await.body["locked"], false);
    world.knows("team", "standup").await;
    world.token("team.standup", "bob", "participant").await;
    assert_eq!(world.backend("PUT", "/v1/rooms/team.standup/lock", json!({})).await.body["field"], "locked");
}

#[tokio::test]
async fn a_room_lets_only_the_roles_in_that_it_allows() {
    let world = World::new().await;
    world
        .backend(
            "POST",
            "/v1/rooms",
            json!({"hostId": "ann", "name": "standup", "settings": {"allowedRoles": ["host"]}}),
        )
        .await;
    world.kubernetes.place("team", "standup", "mn-a", 1);
    world.knows("team", "standup").await;
    assert_eq!(world.backend("POST", JOIN, json!({"userId": "ann"})).await.text("role"), "host");
    let refused = world.backend("POST", JOIN, json!({"userId": "bob"})).await;
    assert_eq!((refused.status, refused.code()), (403, "role-not-allowed"));
}

#[tokio::test]
async fn who_asks_too_often_is_told_when_to_come_again() {
    let world = World::with(rate(1, 3), rate(1000, 1000)).await;
    let mut last = world.backend("GET", "/v1/rooms", Value::Null).await;
    for _ in 0..3 {
        last = world.backend("GET", "/v1/rooms", Value::Null).await;
    }
    assert_eq!((last.status, last.code(), last.headers["retry-after"].as_bytes()), (429, "rate-limited", &b"1"[..]));
    let world = World::with(rate(1000, 1000), rate(1, 3)).await;
    for _ in 0..3 {
        assert_eq!(world.send("GET", "/v1/rooms", "wrong", Value::Null).await.code(), "credentials-invalid");
    }
    let refused = world.send("GET", "/v1/rooms", "wrong", Value::Null).await;
    assert_eq!(refused.code(), "rate-limited", "guessing keys counts for the address");
}

#[tokio::test]
async fn pages_of_listed_origins_may_read_the_answers_and_others_may_not() {
    let world = World::new().await;
    let preflight = |origin: &'static str| {
        let request = world.request("OPTIONS", "/v1/rooms").header("origin", origin);
        answer(
            request
                .header("access-control-request-method", "POST")
                .header("access-control-request-headers", "authorization"),
        )
    };
    let allowed = preflight("https://app.example").await;
    assert_eq!(
        (allowed.status, allowed.headers["access-control-allow-origin"].as_bytes()),
        (200, &b"https://app.example"[..])
    );
    assert!(!preflight("https://evil.example").await.headers.contains_key("access-control-allow-origin"));
    let get = world.request("GET", "/v1/rooms").header("origin", "https://app.example").bearer_auth(API_KEY);
    assert_eq!(answer(get).await.headers["access-control-allow-origin"], "https://app.example");
}

#[tokio::test]
async fn a_rotation_of_the_join_key_refuses_nobody() {
    let world = World::new().await;
    let _node = world.placed("team", "standup").await;
    let made = world.backend("POST", LINKS, json!({})).await;
    let (link, old) = (made.text("linkToken"), world.token("team.standup", "ann", "host").await);
    let (first, next) = (world.gateway.signer.key().unwrap(), JoinKey::generate().unwrap());
    let published = async || {
        let set = world.send("GET", "/.well-known/jwks.json", "", Value::Null).await.body;
        set["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let status = async |token: &str| world.send("GET", "/v1/rooms/team.standup", token, Value::Null).await.status;
    let by_link = async || world.send("POST", JOIN, "", json!({"linkToken": link})).await.status;
    let of = |keys: &[&JoinKey]| keys.iter().map(|key| key.jwk().clone()).collect();

    world.mount_keys(&first, &Public { tokens: of(&[&first, &next]), previous: vec![] });
    assert_eq!(published().await, [&first.kid, &next.kid].map(String::clone), "ahead of its use");
    assert_eq!(jsonwebtoken::decode_header(&old).unwrap().kid.as_ref(), Some(&first.kid));

    let now = world.gateway.clock.now().wall;
    let previous = Previous {
        jwk: first.jwk().clone(),
        tokens_until: now + Duration::from_secs(900),
        links_until: now + Duration::from_secs(3600),
    };
    world.mount_keys(&next, &Public { tokens: of(&[&next, &first]), previous: vec![previous.clone()] });
    let new = world.token("team.standup", "bob", "host").await;
    assert_eq!(jsonwebtoken::decode_header(&new).unwrap().kid.as_ref(), Some(&next.kid));
    assert_eq!(published().await, [&next.kid, &first.kid].map(String::clone));
    assert_eq!((status(&old).await, status(&new).await, by_link().await), (200, 200, 200));

    world.mount_keys(&next, &Public { tokens: of(&[&next]), previous: vec![previous] });
    assert_eq!(published().await, std::slice::from_ref(&next.kid));
    assert_eq!((status(&old).await, status(&new).await, by_link().await), (401, 200, 200));
}

#[tokio::test]
async fn keys_and_description_are_public_and_metrics_name_nobody() {
    let world = World::new().await;
    let mut node = world.placed("team", "standup").await;
    let keys = world.send("GET", "/.well-known/jwks.json", "", Value::Null).await;
    assert_eq!((&keys.body["keys"][0]["kty"], keys.body["keys"][0].get("d")), (&json!("EC"), None));
    let described = world.send("GET", "/openapi.json", "", Value::Null).await;
    assert!(described.text("openapi").starts_with("3.1"));
    for (path, methods) in described.body["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            let path = path.replace("{id}", "team.nothing").replace("{linkId}", "1-0000000000000000");
            let served = world.send(&method.to_uppercase(), &path, API_KEY, Value::Null).await;
            let code = served.body["code"].as_str().unwrap_or_default();
            assert!(
                !["no-such-route", "method-not-allowed"].contains(&code),
                "{method} {path} is described and not served"
            );
        }
    }
    let token = world.token("team.standup", "bob", "participant").await;
    world.send("GET", "/api/rooms/team.standup/x", &token, Value::Null).await;
    node.asked.recv().await.unwrap();
    tokio::time::timeout(Duration::from_secs(5), async {
        while !world.gateway.metrics.text().unwrap().contains("/api/rooms/{call}/{*rest}") {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    let metrics = world.gateway.metrics.text().unwrap();
    for secret in ["standup", "bob", API_KEY, &token] {
        assert!(!metrics.contains(secret), "{secret}");
    }
}
