//! Consent before a call: asked, kept, shown.

use callplane_crds::names::TOKEN_ISSUER;
use callplane_gateway::{
    access::{CONSENT_AUDIENCE, ConsentClaims},
    records::Source,
    signal::store::Store,
};
use callplane_operator::keys::JoinKey;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use crate::{
    kubernetes::{Kubernetes, p2p},
    peer::Peer,
    postgres::Postgres,
    world::{API_KEY, Answer, Setup, World, answer},
};

const JOIN: &str = "/v1/rooms/team.standup/join";
const CONSENT: &str = "/v1/users/consent";

/// A room of ann's that asks for consent in version 2, placed and known, and the database.
async fn asking() -> (World, Postgres) {
    let postgres = Postgres::start();
    let world = World::with_records(Source::PostgresUrl(postgres.url_file())).await;
    let consent = json!({"required": true, "types": ["recording_ai"], "version": "2"});
    let body = json!({"hostId": "ann", "name": "standup", "settings": {"consent": consent}});
    let created = world.backend("POST", "/v1/rooms", body).await;
    assert_eq!(created.status, 202, "{created:?}");
    world.kubernetes.place("team", "standup", "mn-a", 1);
    world.knows("team", "standup").await;
    until_schema(&world).await;
    (world, postgres)
}

/// The schema comes in a moment.
async fn until_schema(world: &World) {
    let wait = async {
        while world.backend("GET", "/v1/rooms/team.standup/consents", Value::Null).await.status == 503 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), wait).await.unwrap();
}

fn says(user: &str, status: &str) -> Value {
    json!({"meetingId": "team.standup", "consentType": "recording_ai", "status": status, "userId": user})
}

async fn join(world: &World, user: &str, token: &Value) -> Answer {
    world.backend("POST", JOIN, json!({"userId": user, "consentToken": token})).await
}

#[tokio::test]
async fn without_consent_nobody_comes_in_and_each_answer_is_kept() {
    let (world, _postgres) = asking().await;
    let room = world.backend("GET", "/v1/rooms/team.standup", Value::Null).await;
    assert_eq!(room.body["consentRequired"], true);
    assert_eq!(room.body["consent"], json!({"types": ["recording_ai"], "version": "2"}));
    let missing = join(&world, "bob", &Value::Null).await;
    assert_eq!((missing.status, missing.code()), (403, "consent-required"));
    assert!(missing.text("detail").contains("recording_ai in version \"2\""), "{missing:?}");
    let host = world.backend("POST", JOIN, json!({"userId": "ann"})).await;
    assert_eq!(host.code(), "consent-required", "the host is recorded, too");

    let no = world.backend("POST", CONSENT, says("bob", "declined")).await;
    assert_eq!((no.status, no.body.get("consentToken"), no.text("version")), (200, None, "2".into()));
    let yes = world.backend("POST", CONSENT, says("bob", "accepted")).await;
    assert_eq!((yes.status, yes.headers["cache-control"].as_bytes()), (200, &b"no-store"[..]), "{yes:?}");
    let token = &yes.body["consentToken"];
    let joined = join(&world, "bob", token).await;
    assert_eq!((joined.status, joined.text("userId")), (200, "bob".into()), "{joined:?}");
    assert_eq!(join(&world, "carl", token).await.code(), "consent-required", "it is bob's");
    // It is for nothing else.
    let as_join_token = world.send("GET", "/v1/rooms/team.standup", token.as_str().unwrap(), Value::Null).await;
    assert_eq!(as_join_token.code(), "credentials-invalid");
    let forged = join(&world, "bob", &json!(joined.text("token"))).await;
    assert_eq!((forged.code(), &forged.body["field"]), ("credentials-invalid", &json!("consentToken")));

    // Another text is another consent.
    let mut room = world.kubernetes.object("callrooms", "team", "standup").unwrap();
    room["spec"]["consent"]["version"] = json!("3");
    world.kubernetes.put("callrooms", "team", "standup", room);
    world.knows("team", "standup").await;
    assert_eq!(join(&world, "bob", token).await.code(), "consent-required");
    // As in the call, so by the token of the call.
    let again = json!({"meetingId": "team.standup", "consentType": "recording_ai", "status": "accepted"});
    let again = world.send("POST", CONSENT, &joined.text("token"), again).await;
    assert_eq!((again.text("userId"), again.text("version")), ("bob".into(), "3".into()));
    let token = &again.body["consentToken"];
    assert_eq!(join(&world, "bob", token).await.status, 200);

    // Another room of the same name asks anew.
    world.kubernetes.delete("callrooms", "team", "standup");
    world.kubernetes.room("team", "standup");
    let mut room = world.kubernetes.object("callrooms", "team", "standup").unwrap();
    room["spec"]["consent"] = json!({"required": true, "types": ["recording_ai"], "version": "3"});
    world.kubernetes.put("callrooms", "team", "standup", room);
    world.kubernetes.place("team", "standup", "mn-a", 1);
    world.knows("team", "standup").await;
    assert_eq!(join(&world, "bob", token).await.code(), "consent-required");

    let all = "/v1/rooms/team.standup/consents";
    let first = world.backend("GET", &format!("{all}?limit=2"), Value::Null).await;
    let next = first.text("continue");
    let second = world.backend("GET", &format!("{all}?limit=2&continue={next}"), Value::Null).await;
    assert_eq!(second.body.get("continue"), None);
    let pages = [&first, &second].map(|page| page.body["consents"].as_array().unwrap().clone()).concat();
    let told: Vec<_> = pages.iter().map(|c| [&c["userId"], &c["status"], &c["version"], &c["givenBy"]]).collect();
    let expected = [
        ["bob", "declined", "2", "backend:shop"],
        ["bob", "accepted", "2", "backend:shop"],
        ["bob", "accepted", "3", "user:bob"],
    ];
    assert_eq!(json!(told), json!(expected));
    assert!(pages.iter().all(|c| c["at"].as_str().unwrap().ends_with('Z') && c["consentType"] == "recording_ai"));
    // A host of the room that is there now sees what is of that room.
    let host = world.backend("POST", CONSENT, says("ann", "accepted")).await.body["consentToken"].clone();
    let host =
        world.backend("POST", JOIN, json!({"userId": "ann", "role": "host", "consentToken": host})).await.text("token");
    let own = world.send("GET", all, &host, Value::Null).await;
    assert_eq!(
        (own.body["consents"].as_array().unwrap().len(), &own.body["consents"][0]["userId"]),
        (1, &json!("ann"))
    );
    assert_eq!(world.send("GET", all, &joined.text("token"), Value::Null).await.status, 403);
    for query in ["limit=0", "limit=501", "continue=x", "continue=-1-00000000000000000000", "page=2"] {
        let refused = world.backend("GET", &format!("{all}?{query}"), Value::Null).await;
        assert_eq!((refused.status, refused.code()), (422, "invalid"), "{query}");
    }
}

#[tokio::test]
async fn a_guest_who_consents_is_the_guest_who_joins() {
    let (world, _postgres) = asking().await;
    let link = world.backend("POST", "/v1/rooms/team.standup/links", json!({})).await;
    let other = world.backend("POST", "/v1/rooms/team.standup/links", json!({})).await;
    let (link, path) = (link.text("linkToken"), format!("/v1/rooms/team.standup/links/{}", link.text("linkId")));
    let mut body = says("x", "accepted");
    body.as_object_mut().unwrap().remove("userId");
    body["linkToken"] = json!(link);
    let given = world.send("POST", CONSENT, "", body.clone()).await;
    assert_eq!(given.status, 200, "{given:?}");
    let token = given.text("consentToken");
    let enter = |link: String| world.send("POST", JOIN, "", json!({"linkToken": link, "consentToken": token}));
    assert_eq!(enter(link.clone()).await.text("userId"), given.text("userId"));
    assert_eq!(enter(other.text("linkToken")).await.code(), "consent-required", "it goes with the link");
    let nobody = world.send("POST", JOIN, "", json!({"linkToken": link})).await;
    assert_eq!(nobody.code(), "consent-required");
    assert_eq!(world.backend("DELETE", &path, Value::Null).await.status, 204);
    world.knows("team", "standup").await;
    assert_eq!(world.send("POST", CONSENT, "", body).await.code(), "link-revoked");
}

#[tokio::test]
async fn while_the_database_is_away_what_needs_consent_waits_and_nothing_else_does() {
    let (world, mut postgres) = asking().await;
    let given = world.backend("POST", CONSENT, says("bob", "accepted")).await;
    postgres.kill();
    let refused = world.backend("POST", CONSENT, says("carl", "accepted")).await;
    assert_eq!((refused.status, refused.code()), (503, "records-unavailable"));
    assert_eq!(refused.headers["retry-after"], "5");
    let list = world.backend("GET", "/v1/rooms/team.standup/consents", Value::Null).await;
    assert_eq!(list.code(), "records-unavailable");
    // Whether they have taken it back nobody knows.
    let refused = join(&world, "bob", &given.body["consentToken"]).await;
    assert_eq!((refused.status, refused.code()), (503, "records-unavailable"));
    assert_eq!(join(&world, "bob", &Value::Null).await.code(), "consent-required", "that needs no database");
    let _node = world.placed("team", "open").await;
    world.token("team.open", "carl", "participant").await;
    postgres.start_again();
    let wait = async {
        while world.backend("POST", CONSENT, says("carl", "accepted")).await.status != 200 {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), wait).await.unwrap();
    assert_eq!(join(&world, "bob", &given.body["consentToken"]).await.status, 200);
}

#[tokio::test]
async fn a_consent_that_was_taken_back_lets_nobody_in_and_ends_the_call_for_them() {
    let (world, _postgres) = asking().await;
    world.kubernetes.route("team", "standup", p2p(1, "Scheduled"), None);
    world.knows("team", "standup").await;
    let accept = async || world.backend("POST", CONSENT, says("bob", "accepted")).await.body["consentToken"].clone();
    let token = accept().await;
    let joined = join(&world, "bob", &token).await.text("token");
    let (mut bob, _) = Peer::joined(world.address, "team.standup", &joined).await;

    let back = json!({"meetingId": "team.standup", "consentType": "recording_ai", "status": "declined"});
    let taken = world.send("POST", CONSENT, &joined, back).await;
    assert_eq!((taken.status, taken.body.get("consentToken")), (200, None), "{taken:?}");
    assert_eq!(bob.until_over().await.last().unwrap(), &("call:removed".to_owned(), json!({"by": "bob"})));
    let mut again = Peer::connect(world.address).await;
    let refused = again.ask("join-room", json!({"roomId": "team.standup", "token": joined})).await;
    assert_eq!(refused["error"]["code"], "removed", "not by the token from before, either");
    let refused = join(&world, "bob", &token).await;
    assert_eq!((refused.status, refused.code()), (403, "consent-required"));
    assert!(refused.text("detail").contains("taken back"), "{refused:?}");

    // They may change their mind again.
    let token = accept().await;
    assert_eq!(join(&world, "bob", &token).await.status, 200);
    // Who has joined nothing has nothing to leave.
    assert_eq!(world.backend("POST", CONSENT, says("carl", "declined")).await.status, 200);
}

#[tokio::test]
async fn a_consent_token_is_good_for_what_it_says_only_and_nobody_else_makes_one() {
    let (world, _postgres) = asking().await;
    let bob = world.backend("POST", CONSENT, says("bob", "accepted")).await.text("consentToken");
    let room = world.kubernetes.object("callrooms", "team", "standup").unwrap();
    let now = world.gateway.clock.now().wall.as_second();
    let claims = ConsentClaims {
        iss: TOKEN_ISSUER.into(),
        aud: CONSENT_AUDIENCE.into(),
        sub: "bob".into(),
        room_id: "team.standup".into(),
        room_uid: room["metadata"]["uid"].as_str().unwrap().into(),
        consent_type: "recording_ai".into(),
        version: "2".into(),
        link: None,
        iat: now,
        exp: now + 600,
    };
    let ours = |claims: ConsentClaims| world.gateway.signer.sign(&claims).unwrap();
    assert_eq!(join(&world, "bob", &json!(ours(claims.clone()))).await.status, 200, "so it is made");
    let kid = world.gateway.signer.jwks().keys[0].common.key_id.clone();
    let header = Header { kid, ..Header::new(Algorithm::ES256) };
    let stranger = EncodingKey::from_ec_pem(JoinKey::generate().unwrap().pem.as_bytes()).unwrap();
    let forged = jsonwebtoken::encode(&header, &claims, &stranger).unwrap();
    let altered = {
        let other = ours(ConsentClaims { sub: "carl".into(), ..claims.clone() });
        let parts: Vec<_> = bob.split('.').zip(other.split('.')).collect();
        format!("{}.{}.{}", parts[0].0, parts[1].1, parts[2].0)
    };
    let carl = |change: fn(&mut ConsentClaims)| {
        let mut claims = ConsentClaims { sub: "carl".into(), ..claims.clone() };
        change(&mut claims);
        ours(claims)
    };
    for (user, token, code) in [
        ("bob", forged, "credentials-invalid"),
        ("carl", altered, "credentials-invalid"),
        ("bob", "x.y.z".into(), "credentials-invalid"),
        ("bob", String::new(), "credentials-invalid"),
        ("carl", carl(|c| (c.iat, c.exp) = (c.iat - 900, c.iat - 300)), "credentials-expired"),
        ("carl", carl(|c| c.aud = "callplane-link".into()), "credentials-invalid"),
        ("carl", bob.clone(), "consent-required"),
        ("carl", carl(|c| c.room_uid = "uid-of-another".into()), "consent-required"),
        ("carl", carl(|c| c.version = "1".into()), "consent-required"),
        ("carl", carl(|c| c.consent_type = "marketing".into()), "consent-required"),
        // Signed, but never written down.
        ("carl", carl(|_| {}), "consent-required"),
    ] {
        let refused = join(&world, user, &json!(token)).await;
        assert_eq!((refused.code(), &refused.body["field"]), (code, &json!("consentToken")), "{token} of {user}");
    }

    // Of another room.
    let body = json!({"hostId": "ann", "name": "other", "settings": {"consent": {"required": true, "version": "2"}}});
    world.backend("POST", "/v1/rooms", body).await;
    world.kubernetes.place("team", "other", "mn-a", 1);
    world.knows("team", "other").await;
    let elsewhere = json!({"userId": "bob", "consentToken": bob});
    let refused = world.backend("POST", "/v1/rooms/team.other/join", elsewhere).await;
    assert_eq!(refused.code(), "consent-required");
    let own = json!({"meetingId": "team.other", "consentType": "recording_ai", "status": "accepted"});
    let joined = join(&world, "bob", &json!(bob)).await.text("token");
    assert_eq!(world.send("POST", CONSENT, &joined, own).await.code(), "wrong-room");
    // Of an earlier room of this name.
    world.kubernetes.delete("callrooms", "team", "standup");
    let mut later = room;
    later["metadata"] = json!({});
    world.kubernetes.put("callrooms", "team", "standup", later);
    world.knows("team", "standup").await;
    let own = json!({"meetingId": "team.standup", "consentType": "recording_ai", "status": "accepted"});
    assert_eq!(world.send("POST", CONSENT, &joined, own).await.code(), "wrong-room");
}

#[tokio::test]
async fn what_is_given_at_one_replica_counts_at_the_other() {
    let postgres = Postgres::start();
    let cluster = Kubernetes::start().await;
    let key = JoinKey::generate().unwrap().pem;
    let replica = async || {
        let records = Some(Source::PostgresUrl(postgres.url_file()));
        let world =
            World::replica(Setup { records, ..Setup::default() }, cluster.clone(), &key, |_| Store::Local).await;
        until_schema(&world).await;
        world
    };
    let (one, two) = (replica().await, replica().await);
    let body = json!({"hostId": "ann", "name": "standup", "settings": {"consent": {"required": true, "version": "2"}}});
    assert_eq!(one.backend("POST", "/v1/rooms", body).await.status, 202);
    one.kubernetes.place("team", "standup", "mn-a", 1);
    for world in [&one, &two] {
        world.knows("team", "standup").await;
    }
    let token = one.backend("POST", CONSENT, says("bob", "accepted")).await.body["consentToken"].clone();
    assert_eq!(join(&two, "bob", &token).await.status, 200);
    let (a, b) = tokio::join!(
        one.backend("POST", CONSENT, says("carl", "accepted")),
        two.backend("POST", CONSENT, says("dora", "accepted"))
    );
    assert_eq!((a.status, b.status), (200, 200));
    assert_eq!(two.backend("POST", CONSENT, says("bob", "declined")).await.status, 200);
    assert_eq!(join(&one, "bob", &token).await.code(), "consent-required");
    for world in [&one, &two] {
        let all = world.backend("GET", "/v1/rooms/team.standup/consents", Value::Null).await;
        assert_eq!(all.body["consents"].as_array().unwrap().len(), 4, "{all:?}");
    }
}

#[tokio::test]
async fn what_is_not_asked_for_or_cannot_be_kept_is_refused() {
    let (world, _postgres) = asking().await;
    let with = |field: &str, value: Value| {
        let mut body = says("bob", "accepted");
        body[field] = value;
        body
    };
    for (body, status, code, field) in [
        (with("consentType", json!("marketing")), 422, "invalid", json!("consentType")),
        (with("status", json!("perhaps")), 422, "invalid", json!("status")),
        (with("userId", Value::Null), 422, "invalid", json!("userId")),
        (with("userId", json!("guest-1")), 422, "invalid", json!("userId")),
        (with("userId", json!("a\u{0}b")), 422, "invalid", json!("userId")),
        (with("meetingId", json!("../x")), 404, "room-not-found", json!("meetingId")),
        (with("meetingId", json!("team.nothing")), 404, "room-not-found", Value::Null),
        (with("more", json!(1)), 400, "unknown-field", json!("more")),
        // They were shown another text than the room has by now.
        (with("version", json!("1")), 409, "conflict", json!("version")),
    ] {
        let refused = world.backend("POST", CONSENT, body.clone()).await;
        assert_eq!((refused.status, refused.code(), &refused.body["field"]), (status, code, &field), "{body}");
    }
    assert_eq!(world.backend("POST", CONSENT, with("version", json!("2"))).await.status, 200);
    let _node = world.placed("team", "open").await;
    let open = world.backend("POST", CONSENT, with("meetingId", json!("team.open"))).await;
    assert_eq!((open.code(), &open.body["field"]), ("invalid", &json!("consentType")));
    assert_eq!(world.send("POST", CONSENT, "", says("bob", "accepted")).await.code(), "credentials-missing");

    // Without a database none is asked for.
    let world = World::new().await;
    let create = json!({"hostId": "ann", "settings": {"consent": {"required": true}}});
    let refused = world.backend("POST", "/v1/rooms", create).await;
    assert_eq!(
        (refused.status, refused.code(), &refused.body["field"]),
        (501, "records-off", &json!("settings.consent"))
    );
    world.kubernetes.room("team", "standup");
    let mut room = world.kubernetes.object("callrooms", "team", "standup").unwrap();
    room["spec"]["consent"] = json!({"required": true});
    world.kubernetes.put("callrooms", "team", "standup", room);
    world.kubernetes.place("team", "standup", "mn-a", 1);
    world.knows("team", "standup").await;
    assert_eq!(join(&world, "bob", &Value::Null).await.code(), "records-off");
    assert_eq!(world.backend("POST", CONSENT, says("bob", "accepted")).await.code(), "records-off");
    let list = answer(world.request("GET", "/v1/rooms/team.standup/consents").bearer_auth(API_KEY)).await;
    assert_eq!(list.code(), "records-off");
}
