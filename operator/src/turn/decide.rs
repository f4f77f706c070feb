//! Which shared secrets there are to be, and what coturn's Redis lacks of them.
//!
//! A new secret takes three steps, so that no client ever holds a credential that coturn does not believe yet: it is
//! written down as `next`; once Redis shows it, it becomes `current` and what credentials are minted with; and the one
//! before it stays believed until the last credential that was minted with it has ended.

use std::{collections::BTreeSet, time::Duration};

use jiff::Timestamp;

use super::keys::Keys;

/// How often secrets change and how long the old one stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Age at which a secret is replaced.
    pub rotation: Duration,
    /// How long the one before it stays believed.
    pub overlap: Duration,
}

/// What is known.
#[derive(Clone, Debug)]
pub struct World<'a> {
    /// What the Secret says; `None` when there is none.
    pub keys: Option<&'a Keys>,
    /// What Redis holds; `None` when that is not known.
    pub believed: Option<&'a BTreeSet<String>>,
    /// The servers as they are to be told.
    pub urls: &'a [String],
    /// A new secret, should one be needed.
    pub fresh: &'a str,
}

/// What to do: first write the Secret, then bring Redis to it.
#[derive(Clone, PartialEq, Eq)]
pub struct Plan {
    /// What the Secret is to say, when that is news.
    pub write: Option<Keys>,
    /// What Redis lacks.
    pub add: BTreeSet<String>,
    /// What Redis must not hold.
    pub remove: BTreeSet<String>,
    /// What this amounts to.
    pub verdict: Verdict,
}

/// What a plan amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing new.
    Unchanged,
    /// The first secret was made.
    Made,
    /// The next secret was made.
    Prepared,
    /// The next secret is current.
    Rotated,
    /// The previous secret is believed no more.
    Retired,
    /// The servers are others.
    Moved,
}

/// Decides at `now`.
pub fn decide(world: &World<'_>, policy: Policy, now: Timestamp) -> Plan {
    let (keys, verdict) = next(world, policy, now);
    let write = (world.keys != Some(&keys)).then(|| keys.clone());
    let wanted = keys.valid();
    let (add, remove) = match world.believed {
        Some(believed) => (&wanted - believed, believed - &wanted),
        None => (BTreeSet::new(), BTreeSet::new()),
    };
    Plan { write, add, remove, verdict }
}

fn next(world: &World<'_>, policy: Policy, now: Timestamp) -> (Keys, Verdict) {
    let urls = world.urls.to_vec();
    let Some(known) = world.keys else {
        let current = world.fresh.to_owned();
        return (Keys { current, since: now, next: None, previous: None, urls, asked: false }, Verdict::Made);
    };
    let moved = known.urls != urls;
    let keys = Keys { urls, ..known.clone() };
    if let Some(next) = &known.next {
        // Redis has to show it: only then does coturn believe what is minted with it.
        if world.believed.is_some_and(|believed| believed.contains(next)) {
            let until = after(now, policy.overlap);
            // One that should still be believed would be dropped for it: never two at once before that.
            let keys = Keys {
                current: next.clone(),
                since: now,
                next: None,
                previous: Some((known.current.clone(), until)),
                ..keys
            };
            return (keys, Verdict::Rotated);
        }
    } else if known.previous.as_ref().is_some_and(|(_, until)| *until <= now) {
        return (Keys { previous: None, ..keys }, Verdict::Retired);
    } else if known.previous.is_none() && (known.asked || after(known.since, policy.rotation) <= now) {
        return (Keys { next: Some(world.fresh.to_owned()), asked: false, ..keys }, Verdict::Prepared);
    }
    (keys, if moved { Verdict::Moved } else { Verdict::Unchanged })
}

fn after(time: Timestamp, by: Duration) -> Timestamp {
    time.checked_add(by).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Policy = Policy { rotation: Duration::from_secs(86_400), overlap: Duration::from_secs(900) };

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn set(secrets: &[&str]) -> BTreeSet<String> {
        secrets.iter().map(|s| (*s).to_owned()).collect()
    }

    fn plan(keys: Option<&Keys>, believed: Option<&[&str]>, fresh: &str, now: i64) -> Plan {
        let believed = believed.map(set);
        let urls = ["turn:a".to_owned()];
        decide(&World { keys, believed: believed.as_ref(), urls: &urls, fresh }, POLICY, at(now))
    }

    fn one() -> Keys {
        Keys {
            current: "one".into(),
            since: at(0),
            next: None,
            previous: None,
            urls: vec!["turn:a".into()],
            asked: false,
        }
    }

    #[test]
    fn a_rotation_never_leaves_a_minted_credential_without_its_secret() {
        let made = plan(None, Some(&[]), "one", 0);
        assert_eq!((made.write.clone(), made.add.clone(), made.verdict), (Some(one()), set(&["one"]), Verdict::Made));

        let idle = plan(Some(&one()), Some(&["one"]), "x", 86_399);
        assert_eq!((idle.write, idle.add, idle.remove), (None, set(&[]), set(&[])));

        let prepared = plan(Some(&one()), Some(&["one"]), "two", 86_400);
        assert_eq!((prepared.add, prepared.remove, prepared.verdict), (set(&["two"]), set(&[]), Verdict::Prepared));
        let keys = prepared.write.unwrap();
        assert_eq!(
            (keys.current.as_str(), keys.next.as_deref()),
            ("one", Some("two")),
            "nothing is minted with it yet"
        );

        // Redis went away in between, or came back without it: it is told again before anything else.
        for believed in [None, Some(&["one"][..]), Some(&[][..])] {
            let waits = plan(Some(&keys), believed, "x", 86_500);
            assert_eq!((waits.write, waits.verdict), (None, Verdict::Unchanged));
            assert_eq!(waits.add.contains("two"), believed.is_some());
        }

        let rotated = plan(Some(&keys), Some(&["one", "two"]), "x", 86_500);
        assert_eq!((rotated.add, rotated.remove, rotated.verdict), (set(&[]), set(&[]), Verdict::Rotated));
        let keys = rotated.write.unwrap();
        assert_eq!((keys.current.as_str(), keys.since), ("two", at(86_500)));
        assert_eq!(keys.previous, Some(("one".to_owned(), at(87_400))));

        let overlap = plan(Some(&keys), Some(&["one", "two"]), "x", 87_399);
        assert_eq!((overlap.write, overlap.remove), (None, set(&[])));
        let retired = plan(Some(&keys), Some(&["one", "two"]), "x", 87_400);
        assert_eq!((retired.remove, retired.verdict), (set(&["one"]), Verdict::Retired));
        assert_eq!(retired.write.unwrap().valid(), set(&["two"]));
    }

    #[test]
    fn a_redis_that_forgot_or_was_tampered_with_is_put_right() {
        let keys = Keys { previous: Some(("zero".into(), at(100))), ..one() };
        let flushed = plan(Some(&keys), Some(&[]), "x", 10);
        assert_eq!((flushed.write, flushed.add, flushed.remove), (None, set(&["one", "zero"]), set(&[])));
        let foreign = plan(Some(&keys), Some(&["one", "zero", "evil"]), "x", 10);
        assert_eq!((foreign.add, foreign.remove), (set(&[]), set(&["evil"])));
        let away = plan(Some(&keys), None, "x", 10);
        assert_eq!((away.write, away.add, away.remove), (None, set(&[]), set(&[])));
    }

    #[test]
    fn a_secret_is_replaced_on_request_but_not_before_the_one_before_it_is_gone() {
        let asked = Keys { asked: true, ..one() };
        let prepared = plan(Some(&asked), Some(&["one"]), "two", 5);
        assert_eq!(prepared.verdict, Verdict::Prepared);
        assert!(!prepared.write.unwrap().asked);
        let busy = Keys { previous: Some(("zero".into(), at(100))), ..asked };
        assert_eq!(plan(Some(&busy), Some(&["one", "zero"]), "two", 5).verdict, Verdict::Unchanged);
        let late = Keys { previous: Some(("zero".into(), at(100_000))), ..one() };
        assert_eq!(plan(Some(&late), Some(&["one", "zero"]), "two", 90_000).verdict, Verdict::Unchanged);
    }

    #[test]
    fn a_deleted_secret_revokes_all_that_was_minted_with_it() {
        let anew = plan(None, Some(&["one", "zero"]), "two", 50);
        assert_eq!((anew.add, anew.remove), (set(&["two"]), set(&["one", "zero"])));
    }

    #[test]
    fn other_servers_are_written_down() {
        let keys = Keys { urls: vec!["turn:b".into()], ..one() };
        let moved = plan(Some(&keys), Some(&["one"]), "x", 5);
        assert_eq!((moved.write, moved.verdict), (Some(one()), Verdict::Moved));
    }
}
