use callplane_crds::CallRoomStatus;
use callplane_crds::callroom::Phase;
use serde_json::Value;

use super::*;
use crate::{
    cluster::fixtures::{key, room, wall},
    context::Context,
    fake::{Shared, of_two_nodes, put, requests, sees, stored, told},
};

const TTL: i32 = 600;

fn asking(provision: Provision) -> CallRoom {
    let mut room = room("r", 5, 4);
    room.spec.turn = Some(Turn { provision, ttl_seconds: TTL });
    room
}

fn named(mut room: CallRoom) -> CallRoom {
    room.status.get_or_insert_default().turn_secret_name = Some("r-turn".into());
    room
}

fn ended(mut room: CallRoom) -> CallRoom {
    room.status.get_or_insert_default().phase = Some(Phase::Ended);
    room
}

fn minting(secret: &str) -> Minting {
    Minting { secret: secret.into(), servers: vec!["turn:a:3478?transport=udp".into()] }
}

fn written(at: u64) -> Written {
    let uid = "uid-of-r".to_owned();
    Written { made: Made { ends: ends(&uid, TTL, wall(at)), from: "f".into() }, uid }
}

#[test]
fn a_credential_in_a_secret_has_between_half_and_all_of_its_life_left() {
    let mut changes = 0;
    for second in 0..2 * u64::from(TTL.unsigned_abs()) {
        let left = ends("some-uid", TTL, wall(second)).as_second() - wall(second).as_second();
        assert!((300..=600).contains(&left), "{left} s left");
        changes += i32::from(ends("some-uid", TTL, wall(second)) != ends("some-uid", TTL, wall(second + 1)));
    }
    assert_eq!(changes, 4, "written once in half a life");
    let turns: std::collections::BTreeSet<_> = (0..50).map(|n| ends(&format!("uid-{n}"), TTL, wall(0))).collect();
    assert!(turns.len() > 10, "not all rooms at once");
}

#[test]
fn a_secret_comes_with_the_wish_and_goes_with_the_room() {
    let now = wall(0);
    let plan = |room: &CallRoom, from, written: Option<&Written>| decide(room, from, written, now);
    let (w, asks) = (written(0), asking(Provision::Secret));
    let write = Plan::Write(w.made.clone());
    assert_eq!(plan(&asks, None, None), Plan::Rest(Some(SOON)), "there is no shared secret yet");
    assert_eq!(plan(&asks, Some("f"), None), write);
    assert_eq!(plan(&asks, Some("f"), Some(&w)), write, "the status does not name it yet");
    let Plan::Rest(Some(rest)) = plan(&named(asks.clone()), Some("f"), Some(&w)) else { panic!("it is right") };
    assert_eq!(wall(0).as_second() + i64::try_from(rest.as_secs()).unwrap(), w.made.ends.as_second() - 300);
    assert!(matches!(plan(&named(asks.clone()), Some("g"), Some(&w)), Plan::Write(_)), "another shared secret");
    assert_eq!(plan(&named(asks.clone()), Some("f"), None), write, "a new leader writes the same again");
    let other = Written { uid: "another".into(), ..w.clone() };
    assert_eq!(plan(&named(asks.clone()), Some("f"), Some(&other)), write, "an earlier room of the same name");

    let mut later = asks.clone();
    later.spec.scheduled_time = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(wall(3600)));
    assert_eq!(plan(&later, Some("f"), None), Plan::Rest(Some(Duration::from_secs(3000))), "it begins later");
    assert_eq!(plan(&named(later.clone()), Some("f"), Some(&w)), Plan::Delete, "it was put off");
    assert_eq!(plan(&ended(later), Some("f"), None), Plan::Rest(None));

    assert_eq!(plan(&named(ended(asks.clone())), Some("f"), Some(&w)), Plan::Delete);
    assert_eq!(plan(&named(ended(asks.clone())), None, None), Plan::Delete, "found by a new leader");
    assert_eq!(plan(&ended(asks.clone()), Some("f"), None), Plan::Rest(None));
    assert_eq!(plan(&named(asking(Provision::OnJoin)), Some("f"), Some(&w)), Plan::Delete, "no longer wished for");
    for provision in [Provision::OnJoin, Provision::None] {
        assert_eq!(plan(&asking(provision), Some("f"), None), Plan::Rest(None));
    }
    assert_eq!(plan(&room("r", 5, 4), Some("f"), None), Plan::Rest(None));
}

fn operator(room: CallRoom) -> (Shared, Arc<Context>) {
    let server = Shared::default();
    put(&server, &room);
    let ctx = of_two_nodes(&server, true);
    sees(&ctx, room);
    (server, ctx)
}

async fn look(ctx: &Arc<Context>, secrets: &Arc<RoomSecrets>) -> Next {
    let (_sender, receiver) = watch::channel(Some(minting("0123456789abcdef")));
    reconcile(key("r"), Arc::clone(ctx), Arc::clone(secrets), receiver).await
}

#[tokio::test]
async fn a_room_has_its_secret_until_it_ends() {
    let (server, ctx) = operator(asking(Provision::Secret));
    let secrets = Arc::default();
    assert!(matches!(look(&ctx, &secrets).await, Next::After(_)));
    let secret: Secret = stored(&server, "r-turn").unwrap();
    assert_eq!(secret.type_.as_deref(), Some(TURN_SECRET_TYPE));
    let owner = &secret.metadata.owner_references.as_ref().unwrap()[0];
    assert_eq!((owner.kind.as_str(), owner.uid.as_str()), ("CallRoom", "uid-of-r"));
    let servers: Value = serde_json::from_slice(&secret.data.as_ref().unwrap()[ICE_SERVERS].0).unwrap();
    assert_eq!(servers[0]["urls"][0], "turn:a:3478?transport=udp");
    let (ends, id) = servers[0]["username"].as_str().unwrap().split_once(':').unwrap();
    let left = ends.parse::<i64>().unwrap() - ctx.clock.now().wall.as_second();
    assert!((300..=600).contains(&left) && !id.contains("team"), "{servers}");
    let status: CallRoomStatus = stored::<CallRoom>(&server, "r").unwrap().status.unwrap();
    assert_eq!(status.turn_secret_name.as_deref(), Some("r-turn"));

    let mut now_ended = ended(named(asking(Provision::Secret)));
    now_ended.metadata.resource_version = Some("90".into());
    sees(&ctx, now_ended);
    look(&ctx, &secrets).await;
    assert_eq!(stored::<Secret>(&server, "r-turn"), None);
    let status: CallRoomStatus = stored::<CallRoom>(&server, "r").unwrap().status.unwrap_or_default();
    assert_eq!(status.turn_secret_name, None);
    let asked = server.lock().unwrap();
    assert!(asked.requests.iter().all(|(request, _)| !request.starts_with("GET")), "nothing is ever read");
}

#[tokio::test]
async fn a_refused_secret_is_told_and_the_room_goes_on() {
    let (server, ctx) = operator(asking(Provision::Secret));
    server.lock().unwrap().fails.push(("PATCH /api/v1/namespaces/team/secrets".into(), 422));
    assert_eq!(look(&ctx, &Arc::default()).await, Next::After(REFUSED_AGAIN));
    assert_eq!(requests(&server, "PATCH /apis/callplane.io"), 0, "no status names what is not there");
    assert_eq!(told(&server), ["Warning TurnSecretRefused CallRoom/r"]);
    server.lock().unwrap().fails = vec![("PATCH /api/v1/namespaces/team/secrets".into(), 503)];
    assert_eq!(look(&ctx, &Arc::default()).await, Next::RetrySoon, "an API server that is away is tried again");
    assert_eq!(told(&server), [""; 0], "and is nothing that the room's people could mend");
}

#[tokio::test]
async fn a_follower_writes_nothing() {
    let server = Shared::default();
    let room = asking(Provision::Secret);
    put(&server, &room);
    let ctx = of_two_nodes(&server, false);
    sees(&ctx, room);
    look(&ctx, &Arc::default()).await;
    assert!(server.lock().unwrap().requests.is_empty());
}
