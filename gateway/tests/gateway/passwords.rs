//! Rooms with a password.

use serde_json::{Value, json};

use crate::world::{API_KEY, World, answer};

const JOIN: &str = "/v1/rooms/team.standup/join";
const PASSWORD: &str = "correct horse battery staple";

/// A room that ann made with a password, placed and known.
async fn with_password(world: &World) {
    let body = json!({"hostId": "ann", "name": "standup", "settings": {"password": PASSWORD}});
    let created = world.backend("POST", "/v1/rooms", body).await;
    assert_eq!((created.status, &created.body["room"]["passwordRequired"]), (202, &json!(true)), "{created:?}");
    world.kubernetes.place("team", "standup", "mn-a", 1);
    world.knows("team", "standup").await;
}

#[tokio::test]
async fn who_has_the_password_comes_in_and_hosts_need_none() {
    let world = World::new().await;
    with_password(&world).await;
    let link = world.backend("POST", "/v1/rooms/team.standup/links", json!({})).await.text("linkToken");
    for body in [json!({"userId": "bob"}), json!({"linkToken": link})] {
        let join = |password: Value| {
            let mut body = body.clone();
            body["password"] = password;
            let bearer = if body["linkToken"].is_null() { API_KEY } else { "" };
            world.send("POST", JOIN, bearer, body)
        };
        let missing = join(Value::Null).await;
        assert_eq!(
            (missing.status, missing.code(), &missing.body["field"]),
            (403, "password-required", &json!("password"))
        );
        let wrong = join(json!("correct horse battery stapler")).await;
        assert_eq!((wrong.status, wrong.code(), &wrong.body["field"]), (403, "wrong-password", &json!("password")));
        assert_eq!(join(json!(PASSWORD)).await.status, 200);
    }
    world.token("team.standup", "ann", "host").await;

    // Whatever is wrong besides the password is said first, so that nothing is hashed for it.
    world.backend("PUT", "/v1/rooms/team.standup/lock", json!({"locked": true})).await;
    world.knows("team", "standup").await;
    let locked = world.backend("POST", JOIN, json!({"userId": "bob", "password": "x"})).await;
    assert_eq!(locked.code(), "room-locked");
    // A room without one does not mind.
    let _node = world.placed("team", "open").await;
    let open = world.backend("POST", "/v1/rooms/team.open/join", json!({"userId": "bob", "password": "x"})).await;
    assert_eq!(open.status, 200);
}

#[tokio::test]
async fn no_object_holds_the_password_and_the_key_is_made_once() {
    let world = World::new().await;
    with_password(&world).await;
    let room = world.kubernetes.object("callrooms", "team", "standup").unwrap();
    let hash = room["metadata"]["annotations"]["callplane.io/password-hash"].as_str().unwrap();
    assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
    assert!(!world.kubernetes.dump().contains(PASSWORD));
    assert!(!world.gateway.metrics.text().unwrap().contains("horse"));
    let key = world.kubernetes.object("secrets", "callplane-system", "callplane-room-passwords").unwrap();
    world.backend("POST", "/v1/rooms", json!({"hostId": "ann", "settings": {"password": "another"}})).await;
    assert_eq!(world.kubernetes.count("POST secrets"), 1);
    assert_eq!(world.kubernetes.object("secrets", "callplane-system", "callplane-room-passwords").unwrap(), key);

    // Joins need no API server.
    world.kubernetes.is_up(false);
    assert_eq!(world.backend("POST", JOIN, json!({"userId": "bob", "password": PASSWORD})).await.status, 200);
    // Another password with the same Idempotency-Key is another request, and neither can be told from what is kept.
    world.kubernetes.is_up(true);
    let post = |password: &'static str| {
        let body = json!({"hostId": "ann", "name": "twice", "settings": {"password": password}});
        answer(world.request("POST", "/v1/rooms").bearer_auth(API_KEY).header("Idempotency-Key", "one").json(&body))
    };
    assert_eq!(post("first").await.status, 202);
    world.knows("team", "twice").await;
    assert_eq!(post("first").await.status, 202);
    assert_eq!(post("second").await.code(), "idempotency-key-reused");
}

#[tokio::test]
async fn without_the_key_nobody_comes_in_by_a_password_and_it_says_so() {
    let world = World::new().await;
    let hash = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$2n0cJ3rwPVcyZ1hY5nDZHQ8vFh0zYwZQm3yNwJkS0uI";
    world.kubernetes.room("team", "standup");
    let mut room = world.kubernetes.object("callrooms", "team", "standup").unwrap();
    room["metadata"]["annotations"] = json!({"callplane.io/password-hash": hash});
    world.kubernetes.put("callrooms", "team", "standup", room);
    world.kubernetes.place("team", "standup", "mn-a", 1);
    world.knows("team", "standup").await;
    let body = json!({"userId": "bob", "password": "x"});
    let refused = world.backend("POST", JOIN, body.clone()).await;
    assert_eq!(
        (refused.status, refused.code(), refused.headers["retry-after"].as_bytes()),
        (503, "no-password-key", &b"5"[..])
    );
    world.kubernetes.is_up(false);
    assert_eq!(world.backend("POST", JOIN, body).await.code(), "kubernetes-unavailable");
}

#[tokio::test]
async fn guesses_are_slowed_down_and_a_flood_of_them_keeps_nobody_else_out() {
    let world = World::new().await;
    with_password(&world).await;
    let link = world.backend("POST", "/v1/rooms/team.standup/links", json!({})).await.text("linkToken");
    let guess = |n: usize| world.send("POST", JOIN, "", json!({"linkToken": link, "password": format!("guess {n}")}));
    let began = world.gateway.clock.now().mono;
    let answers = futures::future::join_all((0..100).map(guess)).await;
    let seconds = (world.gateway.clock.now().mono - began).as_secs() as usize;
    let count = |code: &str| answers.iter().filter(|a| a.code() == code).count();
    let (wrong, limited) = (count("wrong-password"), count("rate-limited"));
    assert_eq!(wrong + limited, 100);
    assert!((1..=31 + seconds).contains(&wrong), "{wrong} guesses were looked at in {seconds} s");
    assert!(answers.iter().filter(|a| a.status == 429).all(|a| a.headers.contains_key("retry-after")));
    // Another user, whom a backend names, is not the one who guesses.
    let bob = world.backend("POST", JOIN, json!({"userId": "bob", "password": PASSWORD})).await;
    assert_eq!(bob.status, 200, "{bob:?}");
}
