//! The API server is away.

use serde_json::{Value, json};

use crate::world::World;

#[tokio::test]
async fn joins_of_known_rooms_go_on_and_what_must_be_written_says_when_to_come_again() {
    let world = World::new().await;
    let mut node = world.placed("team", "standup").await;
    let link = world.backend("POST", "/v1/rooms/team.standup/links", json!({})).await.text("linkToken");
    world.kubernetes.is_up(false);

    let token = world.token("team.standup", "bob", "participant").await;
    let guest = world.send("POST", "/v1/rooms/team.standup/join", "", json!({"linkToken": link})).await;
    assert_eq!(guest.status, 200, "{guest:?}");
    assert_eq!(world.send("GET", "/v1/rooms/team.standup", &token, Value::Null).await.status, 200);
    assert_eq!(world.send("GET", "/api/rooms/team.standup", &token, Value::Null).await.status, 200);
    node.asked.recv().await.unwrap();
    for (method, path, body) in [
        ("POST", "/v1/rooms", json!({"hostId": "ann"})),
        ("GET", "/v1/rooms", Value::Null),
        ("PUT", "/v1/rooms/team.standup/end", Value::Null),
        ("PUT", "/v1/rooms/team.standup/lock", json!({"locked": true})),
        ("DELETE", "/v1/rooms/team.standup/links/9999999999-0000000000000000", Value::Null),
        // Whether there is such a room nobody can tell.
        ("POST", "/v1/rooms/team.unknown/join", json!({"userId": "bob"})),
    ] {
        let refused = world.backend(method, path, body).await;
        assert_eq!((refused.status, refused.code()), (503, "kubernetes-unavailable"), "{method} {path}");
        assert_eq!(refused.headers["retry-after"], "5");
    }

    world.kubernetes.is_up(true);
    world.kubernetes.room("team", "later");
    world.kubernetes.place("team", "later", "mn-a", 1);
    world.knows("team", "later").await;
    world.token("team.later", "bob", "participant").await;
}
