//! The promises about keys, tried with whatever order of events proptest comes up with: two operators that both take
//! themselves for the leader, killed anywhere, by clocks that differ; gateways and media nodes that mount what is
//! minutes old; people who replace and remove the private keys.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use jiff::Timestamp;
use proptest::prelude::*;

use super::{JoinKey, Keys, Plan, Policy, Public, Verdict, World, decide};

const POLICY: Policy = Policy { rotation: Some(Duration::from_secs(86_400)), lead: Duration::from_secs(300) };
/// What a mounted Secret takes to change, at most.
const MOUNT: i64 = 240;
/// What clocks are off by, at most.
const SKEW: i64 = 20;
/// What a pass takes, at most: its requests have time limits.
const PASS: i64 = 60;
/// Life of what is signed, with the skew that verifiers forgive.
const TOKEN: i64 = 600 + 5;
const LINK: i64 = 30 * 86_400 + 5;

/// An object of the API server: its states, and since when each has been.
struct Object<T>(Vec<(i64, T)>);

impl<T> Object<T> {
    fn version(&self) -> usize {
        self.0.len()
    }

    fn latest(&self) -> &T {
        &self.0.last().unwrap().1
    }

    /// What somebody who mounts it may see at `now`.
    fn seen(&self, now: i64) -> impl Iterator<Item = &T> {
        let ended = |i: usize| self.0.get(i + 1).map_or(i64::MAX, |(since, _)| *since);
        let states = self.0.iter().enumerate();
        states.filter(move |(i, _)| ended(*i) >= now - MOUNT).map(|(_, (_, state))| state)
    }
}

/// How far an operator has come with a pass.
enum Pass {
    ReadPublic { version: usize, public: Public },
    Decided { public: usize, private: usize, plan: Plan },
    Listed { private: usize, plan: Plan },
}

struct Operator {
    pass: Option<(i64, Pass)>,
    skew: i64,
}

#[derive(Clone, Debug)]
enum Step {
    Wait(i64),
    /// The next request of this operator.
    Request(usize),
    /// A whole pass of this operator.
    Pass(usize),
    Kill(usize),
    Ask,
    /// Somebody puts another private key in the place of all that there are.
    Replace,
    /// Somebody removes the private keys.
    Remove,
}

struct Scene {
    now: i64,
    private: Object<Option<Keys>>,
    public: Object<Public>,
    operators: [Operator; 2],
    made: u32,
    /// Keys that signed without a lead, because somebody put them there or took the one before away.
    hasty: HashSet<String>,
    /// When the last token and the last link of each key end.
    tokens: HashMap<String, i64>,
    links: HashMap<String, i64>,
    rotations: usize,
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

impl Scene {
    fn new(skews: [i64; 2]) -> Self {
        let first = JoinKey::nominal(0);
        let public = Public { tokens: vec![first.jwk().clone()], previous: vec![] };
        let keys = Keys { current: first, since: Some(at(0)), next: None, asked: false };
        Self {
            now: 0,
            private: Object(vec![(-MOUNT, Some(keys))]),
            public: Object(vec![(-MOUNT, public)]),
            operators: skews.map(|skew| Operator { pass: None, skew }),
            made: 0,
            hasty: HashSet::new(),
            tokens: HashMap::new(),
            links: HashMap::new(),
            rotations: 0,
        }
    }

    fn fresh(&mut self) -> JoinKey {
        self.made += 1;
        JoinKey::nominal(self.made)
    }

    fn request(&mut self, who: usize) -> Result<(), TestCaseError> {
        let now = at(self.now + self.operators[who].skew);
        let (began, next) = match self.operators[who].pass.take() {
            None => {
                let (version, public) = (self.public.version(), self.public.latest().clone());
                (self.now, Some(Pass::ReadPublic { version, public }))
            }
            Some((began, Pass::ReadPublic { version, public })) => {
                let (private, keys, fresh) = (self.private.version(), self.private.latest().clone(), self.fresh());
                let plan = decide(&World { keys: keys.as_ref(), public: &public, fresh: &fresh }, POLICY, now);
                (began, Some(Pass::Decided { public: version, private, plan }))
            }
            Some((began, Pass::Decided { public, private, plan })) => {
                let wanted = plan.public.clone().filter(|wanted| wanted != self.public.latest());
                // A conflict ends the pass, as any failure does.
                let agreed = wanted.is_none() || public == self.public.version();
                if agreed && let Some(wanted) = wanted {
                    self.public.0.push((self.now, wanted));
                }
                (began, agreed.then_some(Pass::Listed { private, plan }))
            }
            Some((began, Pass::Listed { private, plan })) => {
                if let Some(keys) = plan.write.filter(|_| private == self.private.version()) {
                    match plan.verdict {
                        Verdict::Made => drop(self.hasty.insert(keys.current.kid.clone())),
                        Verdict::Rotated => {
                            self.rotations += 1;
                            let kid = &keys.current.kid;
                            let lists = |public: &Public| public.tokens.iter().any(|key| key.kid == *kid);
                            prop_assert!(self.public.seen(self.now).all(lists), "it signs before everybody knows it");
                        }
                        _ => {}
                    }
                    self.private.0.push((self.now, Some(keys)));
                }
                (began, None)
            }
        };
        self.operators[who].pass = next.map(|pass| (began, pass));
        Ok(())
    }

    /// Everybody signs who may, and everything that is good is shown to everybody who may see it.
    fn promise(&mut self) -> Result<(), TestCaseError> {
        let now = self.now;
        let signing: HashSet<String> = self.private.seen(now).flatten().map(|keys| keys.current.kid.clone()).collect();
        for kid in signing {
            let is_listed = self.public.seen(now).all(|public| public.tokens.iter().any(|key| key.kid == kid));
            if is_listed || !self.hasty.contains(&kid) {
                self.tokens.insert(kid.clone(), now + TOKEN);
                self.links.insert(kid, now + LINK);
            }
        }
        self.tokens.retain(|_, end| *end > now);
        self.links.retain(|_, end| *end > now);
        for public in self.public.seen(now) {
            prop_assert!(public.tokens.len() <= 32, "a media node reads no more");
            for kid in self.tokens.keys() {
                prop_assert!(public.tokens.iter().any(|key| key.kid == *kid), "a token of {kid} is refused at {now}");
            }
            for kid in self.links.keys() {
                let is_previous = public.previous.iter().any(|p| p.jwk.kid == *kid && p.links_until > at(now));
                let is_believed = is_previous || public.tokens.iter().any(|key| key.kid == *kid);
                prop_assert!(is_believed, "a link of {kid} is refused at {now}");
            }
        }
        Ok(())
    }

    fn take(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match *step {
            Step::Wait(seconds) => {
                self.now += seconds;
                for operator in &mut self.operators {
                    operator.pass = operator.pass.take().filter(|(began, _)| began + PASS >= self.now);
                }
            }
            Step::Request(who) => self.request(who)?,
            Step::Pass(who) => {
                for _ in 0..4 {
                    self.request(who)?;
                }
            }
            Step::Kill(who) => self.operators[who].pass = None,
            Step::Ask => {
                if let Some(keys) = self.private.latest().clone() {
                    self.private.0.push((self.now, Some(Keys { asked: true, ..keys })));
                }
            }
            Step::Replace => {
                let current = self.fresh();
                self.hasty.insert(current.kid.clone());
                self.private.0.push((self.now, Some(Keys { current, since: None, next: None, asked: false })));
            }
            Step::Remove => self.private.0.push((self.now, None)),
        }
        self.promise()
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (1..90_i64).prop_map(Step::Wait),
        3 => (90..1200_i64).prop_map(Step::Wait),
        1 => (1200..200_000_i64).prop_map(Step::Wait),
        8 => (0..2_usize).prop_map(Step::Request),
        8 => (0..2_usize).prop_map(Step::Pass),
        1 => (0..2_usize).prop_map(Step::Kill),
        1 => Just(Step::Ask),
    ];
    let with_people = prop_oneof![40 => step, 1 => Just(Step::Replace), 1 => Just(Step::Remove)];
    prop::collection::vec(with_people, 1..250)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn whatever_is_good_is_believed_everywhere_and_nobody_signs_with_what_is_not(
        skews in [-SKEW..=SKEW, -SKEW..=SKEW],
        steps in steps(),
    ) {
        let mut world = Scene::new(skews);
        for step in &steps {
            world.take(step)?;
        }
    }
}

#[test]
fn a_key_is_replaced_day_by_day_and_links_outlive_their_keys() {
    let mut world = Scene::new([0, 0]);
    let mut most = 0;
    // Every minute, for 40 days.
    for _ in 0..40 * 1440 {
        world.take(&Step::Wait(60)).unwrap();
        world.take(&Step::Pass(0)).unwrap();
        most = most.max(world.public.latest().previous.len());
        // What nobody can see any more is forgotten, and the versions with it.
        let settled = world.public.0.len().saturating_sub(8);
        world.public.0.drain(..settled);
        let settled = world.private.0.len().saturating_sub(8);
        world.private.0.drain(..settled);
    }
    assert!((38..=40).contains(&world.rotations), "{}", world.rotations);
    assert!((30..=31).contains(&most), "{most}");
}
