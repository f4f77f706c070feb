use std::future::Future;

use jsonwebtoken::{DecodingKey, Validation, jwk::JwkSet};
use serde_json::Value;

use super::*;
use crate::{
    fake::{NAMESPACE, Shared, drop_object, of_two_nodes, put, requests, stored},
    keys::{Next, PRIVATE, ROTATE, read},
    token::{self, Invitation},
};

const DAY: i64 = 86_400;
const PRIVATE_PATH: &str = "/api/v1/namespaces/team/secrets/callplane-join-keys";
const PUBLIC_PATH: &str = "/api/v1/namespaces/team/secrets/callplane-join-public";

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn keeper(server: &Shared) -> Keeper {
    let day = Some(Duration::from_secs(86_400));
    Keeper::new(&of_two_nodes(server, true), Policy { rotation: day, lead: Duration::from_secs(300) })
}

fn keys(server: &Shared) -> Keys {
    Keys::read(&stored(server, JOIN_KEYS_SECRET).unwrap()).unwrap()
}

fn public(server: &Shared) -> Public {
    Public::read(&stored(server, JOIN_PUBLIC_SECRET).unwrap())
}

/// Passes until nothing is left to do; what they amounted to.
async fn settle(keeper: &Keeper, now: i64) -> Vec<Verdict> {
    let mut verdicts = vec![];
    for _ in 0..10 {
        let done = keeper.pass(at(now)).await.unwrap();
        verdicts.extend((done.verdict != Verdict::Unchanged).then_some(done.verdict));
        if !done.wrote {
            return verdicts;
        }
    }
    panic!("it comes to no end: {verdicts:?}");
}

fn writes(server: &Shared) -> usize {
    ["POST", "PUT", "PATCH"].iter().map(|verb| requests(server, &format!("{verb} /api/v1"))).sum()
}

/// A join token of the key that signs at present, as the gateway makes it.
fn token(server: &Shared) -> String {
    let invitation = Invitation {
        room: "team.standup".parse().unwrap(),
        user: "ann".into(),
        name: None,
        role: "host".into(),
        ttl: token::LONGEST,
    };
    token::sign(&keys(server).current, &invitation, "u1", 1, at(0)).unwrap()
}

/// Whether a media node believes `token`, as far as keys go.
fn is_believed(server: &Shared, token: &str) -> bool {
    let set: JwkSet = serde_json::from_str(&public(server).jwks()).unwrap();
    let kid = jsonwebtoken::decode_header(token).unwrap().kid.unwrap();
    let mut validation = Validation::new(jsonwebtoken::Algorithm::ES256);
    validation.set_audience(&["callplane-media"]);
    validation.validate_exp = false;
    let verified = |jwk| jsonwebtoken::decode::<Value>(token, &DecodingKey::from_jwk(jwk).unwrap(), &validation);
    set.find(&kid).is_some_and(|jwk| verified(jwk).is_ok())
}

#[tokio::test]
async fn a_key_is_made_once_and_replaced_with_an_overlap() {
    let server = Shared::default();
    let keeper = keeper(&server);
    assert_eq!(settle(&keeper, 0).await, [Verdict::Made]);
    let old = token(&server);
    assert!(is_believed(&server, &old));
    let writes_before = writes(&server);
    assert_eq!(settle(&keeper, DAY - 1).await, []);
    assert_eq!(writes(&server), writes_before, "an idle pass writes nothing");

    assert_eq!(settle(&keeper, DAY).await, [Verdict::Prepared, Verdict::Listed]);
    let next = keys(&server).next.unwrap();
    assert_eq!((next.listed, public(&server).tokens.len()), (Some(at(DAY)), 2));
    assert_eq!(token(&server).split('.').next(), old.split('.').next(), "the next one does not sign yet");

    assert_eq!(settle(&keeper, DAY + 299).await, []);
    assert_eq!(settle(&keeper, DAY + 300).await, [Verdict::Rotated]);
    assert_eq!(keys(&server).current, next.key);
    assert!(is_believed(&server, &old) && is_believed(&server, &token(&server)));
    let metrics = keeper.metrics.text().unwrap();
    assert!(metrics.contains("join_keys 2") && metrics.contains("join_key_rotations_total 1"), "{metrics}");

    // Long after the last token the key is believed for share links only, and at last for nothing.
    settle(&keeper, DAY + 2000).await;
    assert!(!is_believed(&server, &old));
    assert_eq!((public(&server).tokens.len(), public(&server).previous.len()), (1, 1));
    let quiet = Keeper { policy: Policy { rotation: None, ..keeper.policy }, ..keeper };
    settle(&quiet, 40 * DAY).await;
    assert_eq!((public(&server).tokens.len(), public(&server).previous.len()), (1, 0));
}

#[tokio::test]
async fn two_that_both_take_themselves_for_the_leader_make_one_key() {
    let server = Shared::default();
    let (one, two) = (keeper(&server), keeper(&server));
    for now in [0, DAY, DAY, DAY, DAY + 400, DAY + 400] {
        // Who was slower is refused, and reads what the other one made.
        for _ in 0..4 {
            let _ = tokio::join!(one.pass(at(now)), two.pass(at(now)));
        }
    }
    let (keys, public) = (keys(&server), public(&server));
    assert_eq!((keys.since, keys.next), (Some(at(DAY + 400)), None));
    assert_eq!((&public.tokens[0], public.tokens.len()), (keys.current.jwk(), 2));
}

/// Runs `pass` until it asks for `request`, and drops it there, with the request on its way or not.
async fn killed_at(server: &Shared, request: &str, pass: impl Future<Output = Result<Done, KeeperError>>) {
    let before = requests(server, request);
    server.lock().unwrap().silent.send_replace(vec![request.to_owned()]);
    let mut pass = std::pin::pin!(pass);
    let mut left = 1000;
    while left > 0 {
        tokio::select! {
            biased;
            ended = &mut pass => panic!("it was not held at {request}: {ended:?}"),
            () = tokio::task::yield_now() => left -= 1,
        }
    }
    assert_eq!(requests(server, request), before, "it did not arrive");
    server.lock().unwrap().silent.send_replace(vec![]);
}

#[tokio::test]
async fn whoever_is_killed_between_two_writes_leaves_a_step_to_be_taken() {
    let server = Shared::default();
    let (create_private, create_public) =
        ("POST /api/v1/namespaces/team/secrets", "POST /api/v1/namespaces/team/secrets");
    let (replace, apply) = (format!("PUT {PRIVATE_PATH}"), format!("PATCH {PUBLIC_PATH}"));
    killed_at(&server, create_private, keeper(&server).pass(at(0))).await;
    assert_eq!(stored::<Secret>(&server, JOIN_KEYS_SECRET), None);
    keeper(&server).pass(at(0)).await.unwrap();
    killed_at(&server, create_public, keeper(&server).pass(at(1))).await;
    settle(&keeper(&server), 2).await;
    let old = token(&server);

    killed_at(&server, &replace, keeper(&server).pass(at(DAY))).await;
    assert_eq!(keys(&server).next, None);
    assert_eq!(keeper(&server).pass(at(DAY)).await.unwrap().verdict, Verdict::Prepared);
    killed_at(&server, &apply, keeper(&server).pass(at(DAY))).await;
    assert_eq!(public(&server).tokens.len(), 1);
    // What nobody listed has no lead behind it, however long ago it was made.
    assert_eq!(settle(&keeper(&server), DAY + 3000).await, [Verdict::Listed]);
    assert_eq!(keys(&server).next.unwrap().listed, Some(at(DAY + 3000)));

    assert_eq!(keeper(&server).pass(at(DAY + 3300)).await.unwrap().verdict, Verdict::Rotated);
    killed_at(&server, &apply, keeper(&server).pass(at(DAY + 3300))).await;
    assert!(public(&server).previous.is_empty(), "nobody has written down yet that the key before is one");
    assert!(is_believed(&server, &old) && is_believed(&server, &token(&server)));
    // Days later it is: its times count from then on.
    settle(&keeper(&server), DAY + 9000).await;
    assert_eq!(public(&server).previous[0].tokens_until, at(DAY + 9000 + 300 + 600 + 120));
    assert!(is_believed(&server, &old));
}

#[tokio::test]
async fn nothing_changes_while_the_api_server_is_away() {
    let server = Shared::default();
    let keeper = keeper(&server);
    settle(&keeper, 0).await;
    let before = writes(&server);
    for unreadable in [PRIVATE_PATH, PUBLIC_PATH] {
        server.lock().unwrap().fails = vec![(format!("GET {unreadable}"), 503)];
        assert!(matches!(keeper.pass(at(DAY)).await, Err(KeeperError::Read { .. })));
        assert_eq!(writes(&server), before, "what is not known is not replaced");
    }
    // A list that cannot be written lets no key sign.
    server.lock().unwrap().fails = vec![(format!("PATCH {PUBLIC_PATH}"), 503)];
    assert_eq!(keeper.pass(at(DAY)).await.unwrap().verdict, Verdict::Prepared);
    for now in [DAY + 300, DAY + 3000] {
        assert!(matches!(keeper.pass(at(now)).await, Err(KeeperError::Write { name: JOIN_PUBLIC_SECRET, .. })));
    }
    assert_eq!(keys(&server).next.unwrap().listed, None);
    assert_eq!(keeper.look().await, LOOK_EVERY);
    server.lock().unwrap().fails.clear();
    assert_eq!(settle(&keeper, DAY + 3000).await, [Verdict::Listed]);
    // Who does not lead writes nothing.
    let follower = Keeper::new(&of_two_nodes(&server, false), keeper.policy);
    let refused = follower.pass(at(DAY + 4000)).await;
    assert!(matches!(refused, Err(KeeperError::Write { source: WriteError::NotLeader, .. })), "{refused:?}");
}

#[tokio::test]
async fn an_installation_of_an_earlier_version_goes_on_with_its_key() {
    let server = Shared::default();
    let key = JoinKey::generate().unwrap();
    for (name, data) in [
        (JOIN_KEYS_SECRET, secret::data([(PRIVATE, key.pem.clone()), ("kid", key.kid.clone())])),
        (JOIN_PUBLIC_SECRET, secret::data([(JWKS, key.jwks())])),
    ] {
        put(&server, &secret::named(name, data));
    }
    let keeper = keeper(&server);
    assert_eq!(settle(&keeper, 50 * DAY).await, [Verdict::Adopted]);
    assert_eq!(keys(&server), Keys { current: key.clone(), since: Some(at(50 * DAY)), next: None, asked: false });
    let listed: Secret = stored(&server, JOIN_PUBLIC_SECRET).unwrap();
    let of_list = |key: &str| secret::text(&listed, key).unwrap();
    assert_eq!((of_list(JWKS), of_list(PREVIOUS).as_str()), (key.jwks(), "[]"), "byte for byte");
}

#[tokio::test]
async fn people_may_replace_remove_and_offer_keys_and_ask_for_a_rotation() {
    let server = Shared::default();
    let keeper = keeper(&server);
    settle(&keeper, 0).await;
    let old = token(&server);

    // With a key of their own, and nothing else in the Secret.
    let theirs = JoinKey::generate().unwrap();
    let mut replaced: Secret = stored(&server, JOIN_KEYS_SECRET).unwrap();
    replaced.data = Some(secret::data([(PRIVATE, theirs.pem.clone())]));
    put(&server, &replaced);
    assert_eq!(settle(&keeper, 100).await, [Verdict::Adopted]);
    assert_eq!(keys(&server).current, theirs);
    assert!(is_believed(&server, &old) && is_believed(&server, &token(&server)));

    // One that is to be the next, with a lead.
    settle(&keeper, 2000).await;
    let offered = JoinKey::generate().unwrap();
    let with_offer = Keys { next: Some(Next { key: offered.clone(), listed: None }), ..keys(&server) };
    put(&server, &with_offer.secret(Some(&stored(&server, JOIN_KEYS_SECRET).unwrap())));
    assert_eq!(settle(&keeper, 2000).await, [Verdict::Listed]);
    assert_eq!(settle(&keeper, 2300).await, [Verdict::Rotated]);
    assert_eq!(keys(&server).current, offered);

    // On request.
    settle(&keeper, 10_000).await;
    let mut asked: Secret = stored(&server, JOIN_KEYS_SECRET).unwrap();
    asked.metadata.annotations = Some([(ROTATE.to_owned(), "now".to_owned())].into());
    put(&server, &asked);
    assert_eq!(settle(&keeper, 10_000).await, [Verdict::Prepared, Verdict::Listed]);
    let begun: Secret = stored(&server, JOIN_KEYS_SECRET).unwrap();
    assert!(begun.metadata.annotations.is_none_or(|all| all.is_empty()), "asked once, done once");

    // Removed: what it signed is still believed. Removed with the list: nothing is.
    let last = token(&server);
    drop_object::<Secret>(&server, JOIN_KEYS_SECRET);
    assert_eq!(settle(&keeper, 10_100).await, [Verdict::Made]);
    assert!(is_believed(&server, &last) && is_believed(&server, &token(&server)));
    drop_object::<Secret>(&server, JOIN_KEYS_SECRET);
    drop_object::<Secret>(&server, JOIN_PUBLIC_SECRET);
    settle(&keeper, 10_200).await;
    assert!(!is_believed(&server, &last) && is_believed(&server, &token(&server)));
    assert!(public(&server).previous.is_empty());
}

#[tokio::test]
async fn what_is_no_key_is_left_alone_and_what_is_no_list_is_not() {
    let server = Shared::default();
    let keeper = keeper(&server);
    settle(&keeper, 0).await;
    let good: Secret = stored(&server, JOIN_KEYS_SECRET).unwrap();
    let before = writes(&server);
    for (entry, wrong) in [(PRIVATE, "nonsense"), ("next.pem", "nonsense")] {
        let mut spoilt = good.clone();
        spoilt.data.as_mut().unwrap().extend(secret::data([(entry, wrong.to_owned())]));
        put(&server, &spoilt);
        let refused = keeper.pass(at(DAY)).await.unwrap_err().to_string();
        assert!(refused.contains(entry), "{refused}");
        assert_eq!((stored::<Secret>(&server, JOIN_KEYS_SECRET).unwrap().data, writes(&server)), (spoilt.data, before));
    }
    put(&server, &good);
    let mut list: Secret = stored(&server, JOIN_PUBLIC_SECRET).unwrap();
    list.data = Some(secret::data([(JWKS, "{".to_owned()), (PREVIOUS, "{}".to_owned())]));
    put(&server, &list);
    settle(&keeper, 10).await;
    assert!(is_believed(&server, &token(&server)));
    let client = crate::fake::client(&server);
    assert_eq!(read(client.clone(), NAMESPACE).await.unwrap(), keys(&server).current);
    drop_object::<Secret>(&server, JOIN_KEYS_SECRET);
    assert!(matches!(read(client, NAMESPACE).await, Err(KeysError::Absent(_))));
}
