use callplane_crds::names::TOKEN_AUDIENCE;
use callplane_operator::{
    keys::{self, Policy, Verdict, World},
    token::{self, Invitation},
};

use super::*;
use crate::{
    access::{JoinClaims, LinkClaims, LinkId, Role},
    testing::Scratch,
};

const DAY: i64 = 86_400;
/// Two weeks, and five minutes.
const POLICY: Policy = Policy { rotation: Some(Duration::from_secs(14 * 86_400)), lead: Duration::from_secs(300) };

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn join_token(signer: &Signer, now: i64) -> String {
    let invitation = Invitation {
        room: "team.standup".parse().unwrap(),
        user: "ann".into(),
        name: None,
        role: "host".into(),
        ttl: token::LONGEST,
    };
    token::sign(&signer.key().unwrap(), &invitation, "", 3, at(now)).unwrap()
}

/// A share link of the longest life.
fn link(signer: &Signer, now: i64) -> String {
    let id = LinkId::new(at(now + i64::from(token::LONGEST_LINK)).as_second(), [7; 8]);
    let room = "team.standup".parse().unwrap();
    signer.sign(&LinkClaims::new(&room, "uid".into(), Role::Guest, id, at(now).as_second())).unwrap()
}

fn code<T>(result: Result<T, Problem>) -> Option<Code> {
    result.err().map(|problem| problem.code())
}

/// What becomes of a join token.
fn join_of(signer: &Signer, token: &str, now: i64) -> Option<Code> {
    code(signer.verify::<JoinClaims>(token, TOKEN_AUDIENCE, at(now)))
}

/// What becomes of a share link.
fn link_of(signer: &Signer, token: &str, now: i64) -> Option<Code> {
    code(signer.verify::<LinkClaims>(token, LINK_AUDIENCE, at(now)))
}

/// The operator's keys, mounted.
struct Mounted {
    scratch: Scratch,
    keys: Option<keys::Keys>,
    public: Public,
}

impl Mounted {
    fn new() -> Self {
        let mut mounted = Self { scratch: Scratch::new(), keys: None, public: Public::default() };
        assert_eq!(mounted.settle(0), [Verdict::Made]);
        mounted
    }

    /// Lets the operator do what there is to do, as it does it, and mounts what comes of it.
    fn settle(&mut self, now: i64) -> Vec<Verdict> {
        let mut verdicts = vec![];
        loop {
            let fresh = JoinKey::generate().unwrap();
            let world = World { keys: self.keys.as_ref(), public: &self.public, fresh: &fresh };
            let plan = keys::decide(&world, POLICY, at(now));
            let before = (self.keys.clone(), self.public.clone());
            self.public = plan.public.unwrap_or_default();
            self.keys = plan.write.or(self.keys.take());
            verdicts.extend((plan.verdict != Verdict::Unchanged).then_some(plan.verdict));
            if before == (self.keys.clone(), self.public.clone()) {
                break;
            }
        }
        // As the chart mounts it: of the private keys the one that signs.
        let secret = self.keys.as_ref().unwrap().secret(None).data.unwrap();
        for (name, text) in self.public.data().into_iter().chain(secret).filter(|(name, _)| name != keys::NEXT) {
            fs::write(self.scratch.path().join(name), text.0).unwrap();
        }
        verdicts
    }

    fn signer(&self) -> Signer {
        Signer::new(self.scratch.path().to_owned())
    }
}

fn kids(signer: &Signer) -> Vec<String> {
    signer.jwks().keys.iter().map(|key| key.common.key_id.clone().unwrap()).collect()
}

#[test]
fn a_rotation_refuses_nobody_and_a_restart_changes_nothing() {
    let mut mounted = Mounted::new();
    let signer = mounted.signer();
    let first = signer.key().unwrap().kid.clone();
    let begin = 14 * DAY;
    assert_eq!(mounted.settle(begin), [Verdict::Prepared, Verdict::Listed]);
    signer.reload();
    let both = kids(&signer);
    assert_eq!((both.len(), &both[0]), (2, &first), "the next one is published before it signs");
    assert_eq!(signer.key().unwrap().kid, first);

    let (old, old_link) = (join_token(&signer, begin + 299), link(&signer, begin + 299));
    assert_eq!(mounted.settle(begin + 300), [Verdict::Rotated]);
    // Replicas hear of it one after the other, and none refuses what the other one signs.
    let late = signer.clone();
    let signer = mounted.signer();
    let (new, new_link) = (join_token(&signer, begin + 300), link(&signer, begin + 300));
    assert_eq!(signer.key().unwrap().kid, both[1]);
    assert_eq!(jsonwebtoken::decode_header(&new).unwrap().kid.as_ref(), Some(&both[1]));
    for replica in [&late, &signer] {
        for token in [&old, &new] {
            assert_eq!(join_of(replica, token, begin + 301), None);
        }
        for token in [&old_link, &new_link] {
            assert_eq!(link_of(replica, token, begin + 301), None);
        }
    }
    late.reload();
    for replica in [late, mounted.signer()] {
        assert_eq!(kids(&replica), [both[1].clone(), first.clone()], "all say the same, whenever they were started");
        assert_eq!(join_of(&replica, &old, begin + 899), None);
        assert_eq!(join_of(&replica, &old, begin + 905), Some(Code::CredentialsExpired));
    }

    // Days later the link is good and the key signs nobody into a call any more.
    mounted.settle(begin + DAY);
    let signer = mounted.signer();
    assert_eq!(kids(&signer), [both[1].clone()]);
    assert_eq!(link_of(&signer, &old_link, begin + 29 * DAY), None);
    assert_eq!(join_of(&signer, &old, begin + 300), Some(Code::CredentialsInvalid));
    // Another rotation, and another: the link outlives them, and ends when it says.
    for day in [28, 29, 42, 43] {
        mounted.settle(day * DAY + 1000);
        mounted.settle(day * DAY + 2000);
    }
    let signer = mounted.signer();
    assert_eq!(link_of(&signer, &old_link, 43 * DAY), None);
    assert_eq!(link_of(&signer, &old_link, 44 * DAY + 400), Some(Code::CredentialsExpired));
    mounted.settle(45 * DAY);
    assert_eq!(link_of(&mounted.signer(), &old_link, 43 * DAY), Some(Code::CredentialsInvalid), "it is forgotten");
}

#[test]
fn an_operator_that_is_away_lets_no_old_link_live_longer() {
    let mut mounted = Mounted::new();
    let old = link(&mounted.signer(), 0);
    mounted.settle(14 * DAY);
    mounted.settle(14 * DAY + 300);
    mounted.settle(15 * DAY);
    let until = mounted.public.previous[0].links_until.as_second() - at(0).as_second();
    let signer = mounted.signer();
    assert_eq!(link_of(&signer, &old, until - 1), Some(Code::CredentialsExpired));
    assert_eq!(
        link_of(&signer, &old, until),
        Some(Code::CredentialsInvalid),
        "whoever has that key may say what he likes"
    );
}

#[test]
fn what_cannot_be_read_takes_no_key_away_and_what_is_not_there_is_none() {
    let scratch = Scratch::new();
    let signer = Signer::new(scratch.path().to_owned());
    assert_eq!((code(signer.key()), signer.jwks().keys.len()), (Some(Code::NoSigningKey), 0));
    // One alone, as an earlier version's operator or nobody at all provides for it.
    let write = |name: &str, text: &str| fs::write(scratch.path().join(name), text).unwrap();
    let (one, two, three) = (JoinKey::generate().unwrap(), JoinKey::generate().unwrap(), JoinKey::generate().unwrap());
    write(PRIVATE, &one.pem);
    signer.reload();
    let (old, old_link) = (join_token(&signer, 0), link(&signer, 0));
    assert_eq!((join_of(&signer, &old, 1), kids(&signer)), (None, vec![one.kid.clone()]));

    write(PRIVATE, &two.pem);
    let previous =
        |key: &JoinKey| Previous { jwk: key.jwk().clone(), tokens_until: at(900), links_until: at(30 * DAY) };
    let public = Public { tokens: vec![one.jwk().clone()], previous: vec![previous(&one), previous(&three)] };
    for (name, text) in public.data() {
        fs::write(scratch.path().join(name), text.0).unwrap();
    }
    signer.reload();
    assert_eq!(kids(&signer), [two.kid.clone(), one.kid.clone()]);
    for (name, wrong) in [
        (PRIVATE, "nonsense".to_owned()),
        (PRIVATE, "x".repeat(20_000)),
        (JWKS, "[]".to_owned()),
        (JWKS, " ".repeat(300_000)),
        (PREVIOUS, "{".to_owned()),
    ] {
        write(name, &wrong);
        signer.reload();
        assert!(signer.is_ready());
        assert_eq!((join_of(&signer, &old, 1), link_of(&signer, &old_link, 1)), (None, None), "{name}");
    }
    for name in [JWKS, PREVIOUS] {
        fs::remove_file(scratch.path().join(name)).unwrap();
    }
    signer.reload();
    assert_eq!(kids(&signer), [two.kid]);
    assert_eq!(join_of(&signer, &old, 1), Some(Code::CredentialsInvalid));
    assert_eq!(link_of(&signer, &old_link, 1), Some(Code::CredentialsInvalid));
}

#[test]
fn tokens_are_good_for_what_they_were_made_for_and_nothing_else() {
    let scratch = Scratch::with_join_key();
    let signer = Signer::new(scratch.path().to_owned());
    let (join, link) = (join_token(&signer, 0), link(&signer, 0));
    let claims: JoinClaims = signer.verify(&join, TOKEN_AUDIENCE, at(599)).unwrap();
    assert_eq!((claims.sub.as_str(), claims.epoch), ("ann", 3));
    let claims: LinkClaims = signer.verify(&link, LINK_AUDIENCE, at(1)).unwrap();
    assert_eq!((claims.room_id.as_str(), claims.role), ("team.standup", Role::Guest));
    for (token, audience) in [(&link, TOKEN_AUDIENCE), (&join, LINK_AUDIENCE)] {
        let refused = signer.verify::<serde_json::Value>(token, audience, at(1));
        assert_eq!(code(refused), Some(Code::CredentialsInvalid));
    }
    let elsewhere = Scratch::with_join_key();
    let stranger = Signer::new(elsewhere.path().to_owned());
    let unsigned = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbm4ifQ.";
    let mut altered = join.clone();
    let place = altered.len() - 40..altered.len() - 39;
    let other = if &altered[place.clone()] == "A" { "B" } else { "A" };
    altered.replace_range(place, other);
    let forged = [join_token(&stranger, 0), unsigned.into(), "a.b.c".into(), "x".repeat(9000), altered];
    for token in forged {
        assert_eq!(join_of(&signer, &token, 1), Some(Code::CredentialsInvalid), "{token}");
    }
    assert_eq!(join_of(&signer, &join, -60), Some(Code::CredentialsInvalid));
    assert_eq!(join_of(&signer, &join, 605), Some(Code::CredentialsExpired));
}
