use super::*;

const DAY: i64 = 86_400;
const LEAD: i64 = 300;
/// What is added to the life of what was signed: the lead and the margin.
const LATE: i64 = LEAD + 120;
const POLICY: Policy =
    Policy { rotation: Some(Duration::from_secs(DAY.unsigned_abs())), lead: Duration::from_secs(LEAD.unsigned_abs()) };

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn key(n: u32) -> JoinKey {
    JoinKey::nominal(n)
}

fn one() -> Keys {
    Keys { current: key(1), since: Some(at(0)), next: None, asked: false }
}

fn believed(keys: &[u32]) -> Vec<Jwk> {
    keys.iter().map(|n| key(*n).jwk().clone()).collect()
}

fn list(keys: &[u32]) -> Public {
    Public { tokens: believed(keys), previous: vec![] }
}

fn previous(n: u32, gone: i64) -> Previous {
    let (tokens_until, links_until) = (at(gone + LATE + 600), at(gone + LATE + 30 * DAY));
    Previous { jwk: key(n).jwk().clone(), tokens_until, links_until }
}

fn plan(keys: &Keys, public: &Public, now: i64) -> Plan {
    decide(&World { keys: Some(keys), public, fresh: &key(99) }, POLICY, at(now))
}

/// What the list is brought to.
fn listing(keys: &Keys, public: &Public, now: i64) -> Public {
    plan(keys, public, now).public.unwrap()
}

fn with_next(n: u32, listed: Option<i64>) -> Keys {
    Keys { next: Some(Next { key: key(n), listed: listed.map(at) }), ..one() }
}

#[test]
fn the_first_key_is_made_and_then_listed() {
    let made = decide(&World { keys: None, public: &Public::default(), fresh: &key(1) }, POLICY, at(0));
    assert_eq!(made, Plan { public: None, write: Some(one()), verdict: Verdict::Made });
    let next = plan(&one(), &Public::default(), 1);
    assert_eq!(next, Plan { public: Some(list(&[1])), write: None, verdict: Verdict::Unchanged });
}

#[test]
fn a_rotation_never_lets_a_key_sign_that_was_not_listed_for_the_lead() {
    assert_eq!(plan(&one(), &list(&[1]), DAY - 1).verdict, Verdict::Unchanged);
    let prepared = plan(&one(), &list(&[1]), DAY);
    assert_eq!((&prepared.public, prepared.verdict), (&Some(list(&[1])), Verdict::Prepared));
    let keys = prepared.write.unwrap();
    assert_eq!(keys, with_next(99, None));

    // It is listed, and until the list shows it nothing else happens.
    for now in [DAY, DAY + LEAD, 10 * DAY] {
        let waits = plan(&keys, &list(&[1]), now);
        assert_eq!((waits.public, waits.write), (Some(list(&[1, 99])), None));
    }
    let seen = plan(&keys, &list(&[1, 99]), DAY + 50);
    assert_eq!((seen.write.clone(), seen.verdict), (Some(with_next(99, Some(DAY + 50))), Verdict::Listed));
    let keys = seen.write.unwrap();
    let early = plan(&keys, &list(&[1, 99]), DAY + 50 + LEAD - 1);
    assert_eq!((early.public, early.write), (Some(list(&[1, 99])), None));

    let rotated = plan(&keys, &list(&[1, 99]), DAY + 50 + LEAD);
    assert_eq!((rotated.public, rotated.verdict), (Some(list(&[1, 99])), Verdict::Rotated));
    let keys = rotated.write.unwrap();
    let now = DAY + 50 + LEAD;
    assert_eq!(keys, Keys { current: key(99), since: Some(at(now)), next: None, asked: false });

    // The one before stays until what it signed is over: tokens soon, links late.
    let kept = listing(&keys, &list(&[1, 99]), now);
    assert_eq!(kept, Public { tokens: believed(&[99, 1]), previous: vec![previous(1, now)] });
    assert_eq!(listing(&keys, &kept, now + LATE + 599), kept);
    let links_only = listing(&keys, &kept, now + LATE + 600);
    assert_eq!(links_only, Public { tokens: believed(&[99]), ..kept.clone() });
    assert_eq!(listing(&keys, &kept, now + LATE + 30 * DAY - 1).previous, kept.previous);
    assert_eq!(listing(&keys, &links_only, now + LATE + 30 * DAY), list(&[99]));
}

#[test]
fn a_list_that_lost_the_next_key_makes_it_wait_anew() {
    let keys = with_next(2, Some(0));
    for lost in [list(&[1]), Public::default()] {
        let put_back = plan(&keys, &lost, LEAD);
        assert_eq!((put_back.public, put_back.verdict), (Some(list(&[1, 2])), Verdict::Unlisted));
        assert_eq!(put_back.write, Some(with_next(2, None)));
    }
    // So does one of somebody else's, put in the place of one that was listed.
    let swapped = plan(&with_next(3, Some(0)), &list(&[1, 2]), LEAD);
    assert_eq!((swapped.write, swapped.verdict), (Some(with_next(3, None)), Verdict::Unlisted));
    assert_eq!(swapped.public.unwrap().tokens, believed(&[1, 3, 2]), "nobody knows that it never signed");
    // And one that was listed by a clock that is ahead.
    let ahead = plan(&with_next(2, Some(1000)), &list(&[1, 2]), 900);
    assert_eq!((ahead.write, ahead.verdict), (Some(with_next(2, Some(900))), Verdict::Listed));
}

#[test]
fn a_key_is_replaced_on_request_and_one_after_the_other() {
    let asked = Keys { asked: true, ..one() };
    let never = Policy { rotation: None, ..POLICY };
    let public = list(&[1]);
    let by = |keys: &Keys, policy| {
        decide(&World { keys: Some(keys), public: &public, fresh: &key(99) }, policy, at(50 * DAY)).verdict
    };
    assert_eq!((by(&one(), never), by(&asked, never)), (Verdict::Unchanged, Verdict::Prepared));
    assert!(!plan(&asked, &public, 5).write.unwrap().asked);

    // Not while tokens of the one before may be about; links of it are no obstacle.
    let busy = Public { tokens: believed(&[1, 7]), previous: vec![previous(7, 0)] };
    assert_eq!(plan(&asked, &busy, LATE + 599).verdict, Verdict::Unchanged);
    assert_eq!(plan(&asked, &busy, LATE + 600).verdict, Verdict::Prepared);
    // Nor when there are more than can be remembered.
    let full = |count: u32| Public { previous: (0..count).map(|n| previous(100 + n, -DAY)).collect(), ..list(&[1]) };
    assert_eq!(plan(&asked, &full(100), 5).verdict, Verdict::Unchanged);
    assert_eq!(plan(&asked, &full(99), 5).verdict, Verdict::Prepared);
    assert_eq!(listing(&one(), &full(150), 5).previous.len(), MAX_PREVIOUS);
}

#[test]
fn a_key_that_somebody_put_there_signs_from_then_on_and_the_one_before_is_still_believed() {
    let theirs = Keys { current: key(5), since: None, next: None, asked: false };
    let adopted = plan(&theirs, &list(&[1]), 70);
    assert_eq!((adopted.write, adopted.verdict), (Some(Keys { since: Some(at(70)), ..theirs }), Verdict::Adopted));
    assert_eq!(adopted.public.unwrap(), Public { tokens: believed(&[5, 1]), previous: vec![previous(1, 70)] });

    // As the next one it gets its lead.
    let offered = plan(&with_next(5, None), &list(&[1]), 70);
    assert_eq!((offered.public, offered.write), (Some(list(&[1, 5])), None));
    // As both it is one.
    let twice = Keys { next: Some(Next { key: key(1), listed: None }), ..one() };
    let dropped = plan(&twice, &list(&[1]), 70);
    assert_eq!((dropped.write, dropped.verdict), (Some(one()), Verdict::Dropped));
    assert_eq!(dropped.public, Some(list(&[1])));
    // One that signed before may sign again, and is replaced like any other then.
    let again = Keys { current: key(1), since: None, next: None, asked: false };
    let known = Public { tokens: believed(&[5, 1]), previous: vec![previous(1, 70)] };
    let restored = listing(&again, &known, 100);
    assert_eq!(restored, Public { tokens: believed(&[1, 5]), previous: vec![previous(5, 100)] });
}

#[test]
fn an_installation_of_an_earlier_version_keeps_its_key() {
    let earlier = Keys { since: None, ..one() };
    let adopted = plan(&earlier, &list(&[1]), 1000);
    assert_eq!((adopted.public, adopted.verdict), (Some(list(&[1])), Verdict::Adopted));
    let keys = adopted.write.unwrap();
    assert_eq!(keys, Keys { since: Some(at(1000)), ..one() });
    assert_eq!(plan(&keys, &list(&[1]), 1000 + DAY - 1).verdict, Verdict::Unchanged, "its age counts from now");
}

#[test]
fn removed_private_keys_leave_the_public_ones_believed_and_without_both_nothing_is() {
    let known = Public { tokens: believed(&[1]), previous: vec![previous(7, -DAY)] };
    let made = decide(&World { keys: None, public: &known, fresh: &key(2) }, POLICY, at(10));
    let keys = made.write.unwrap();
    assert_eq!((&made.public, &keys.current), (&None, &key(2)));
    let expected = Public { tokens: believed(&[2, 1]), previous: vec![previous(1, 11), previous(7, -DAY)] };
    assert_eq!(listing(&keys, &known, 11), expected);
    assert_eq!(listing(&keys, &Public::default(), 11), list(&[2]));
}
