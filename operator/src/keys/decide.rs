//! Which keys sign join tokens and share links, which are listed as believed, and until when.
//!
//! A new key takes four steps, so that nobody ever bears a token of a key that some machine does not believe yet: it is
//! written down as `next`; its public half is listed; once the list shows it, that time is written down; and after the
//! lead it becomes the one that signs. Each pass first brings the list to what the private keys are and changes these only
//! then, so a pass that ends in the middle leaves nothing but a step to be taken later.
//!
//! Whatever is listed and is neither the key that signs nor the next one has signed before, be it by a rotation or because
//! somebody replaced or removed the private keys: it stays, for join tokens until the last of them has ended, for share
//! links until the last of them has.

use std::{cmp::Reverse, time::Duration};

use jiff::Timestamp;

use super::{JoinKey, Jwk, Keys, Next, Previous, Public};
use crate::token::{LONGEST, LONGEST_LINK};

/// Keys that signed before and are remembered. While there are so many no rotation begins: share links of the oldest
/// would be lost. By intervals there are 31 at most.
pub const MAX_PREVIOUS: usize = 100;
/// What clocks of machines may differ by, and a pass may take.
const MARGIN: Duration = Duration::from_secs(120);

/// When keys change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Age at which a key is replaced; `None`: only on request.
    pub rotation: Option<Duration>,
    /// How long a key is listed before it signs: longer than a mounted Secret takes to change everywhere.
    pub lead: Duration,
}

impl Policy {
    /// Until when what lasts so long may be about, if its key signs no more since `now`: some gateway may hear of that as
    /// late as it hears of a new list.
    fn until(self, now: Timestamp, lasts: Duration) -> Timestamp {
        after(now, self.lead + lasts + MARGIN)
    }
}

/// What is known.
#[derive(Clone, Copy, Debug)]
pub struct World<'a> {
    /// The private keys; `None` when there are none.
    pub keys: Option<&'a Keys>,
    /// The list, as it was read before the private keys were.
    pub public: &'a Public,
    /// A new key, should one be needed.
    pub fresh: &'a JoinKey,
}

/// What to do: first bring the list to this, then write the private keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What is to be listed; `None` before there is a private key.
    pub public: Option<Public>,
    /// What the private keys are to be, when that is news.
    pub write: Option<Keys>,
    /// What this amounts to.
    pub verdict: Verdict,
}

/// What a plan amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing new about the private keys.
    Unchanged,
    /// The first key was made.
    Made,
    /// A key that somebody else put there, or that an earlier version made, is ours from now on.
    Adopted,
    /// The next key was made.
    Prepared,
    /// The next key is listed: its lead begins.
    Listed,
    /// The next key is listed no more: its lead will begin anew.
    Unlisted,
    /// The next key signs.
    Rotated,
    /// The next key is the one that signs already.
    Dropped,
}

/// Decides at `now`.
pub fn decide(world: &World<'_>, policy: Policy, now: Timestamp) -> Plan {
    let Some(keys) = world.keys else {
        let first = Keys { current: world.fresh.clone(), since: Some(now), next: None, asked: false };
        return Plan { public: None, write: Some(first), verdict: Verdict::Made };
    };
    let public = listed(keys, world.public, policy, now);
    let (write, verdict) = match step(keys, world, &public, policy, now) {
        Some((keys, verdict)) => (Some(keys), verdict),
        None => (None, Verdict::Unchanged),
    };
    Plan { public: Some(public), write, verdict }
}

fn step(keys: &Keys, world: &World<'_>, public: &Public, policy: Policy, now: Timestamp) -> Option<(Keys, Verdict)> {
    let Some(since) = keys.since else {
        return Some((Keys { since: Some(now), ..keys.clone() }, Verdict::Adopted));
    };
    let Some(next) = &keys.next else {
        let is_due = policy.rotation.is_some_and(|rotation| after(since, rotation) <= now);
        // One after the other: the set that media nodes read stays small.
        let is_calm = public.tokens.len() == 1 && public.previous.len() < MAX_PREVIOUS;
        let fresh = Next { key: world.fresh.clone(), listed: None };
        let begun = || Keys { next: Some(fresh), asked: false, ..keys.clone() };
        return ((is_due || keys.asked) && is_calm).then(|| (begun(), Verdict::Prepared));
    };
    if next.key.kid == keys.current.kid {
        return Some((Keys { next: None, ..keys.clone() }, Verdict::Dropped));
    }
    let with = |listed| Keys { next: Some(Next { key: next.key.clone(), listed }), ..keys.clone() };
    // As it was read: what this pass lists nobody may have seen yet.
    let is_listed = world.public.tokens.iter().any(|key| key.kid == next.key.kid);
    match next.listed {
        None if is_listed => Some((with(Some(now)), Verdict::Listed)),
        Some(_) if !is_listed => Some((with(None), Verdict::Unlisted)),
        // By a clock that was ahead of this one.
        Some(since) if since > now => Some((with(Some(now)), Verdict::Listed)),
        Some(since) if after(since, policy.lead) <= now => {
            let current = next.key.clone();
            Some((Keys { current, since: Some(now), next: None, ..keys.clone() }, Verdict::Rotated))
        }
        _ => None,
    }
}

/// What is to be listed where `known` is and the private keys are `keys`.
fn listed(keys: &Keys, known: &Public, policy: Policy, now: Timestamp) -> Public {
    let next = keys.next.as_ref().map(|next| &next.key).filter(|next| next.kid != keys.current.kid);
    let held: Vec<&Jwk> = [&keys.current].into_iter().chain(next).map(JoinKey::jwk).collect();
    let is_held = |jwk: &Jwk| held.iter().any(|held| held.kid == jwk.kid);
    let is_known = |jwk: &Jwk| known.previous.iter().any(|previous| previous.jwk.kid == jwk.kid);
    let gone = known.tokens.iter().filter(|jwk| !is_known(jwk)).map(|jwk| Previous {
        jwk: jwk.clone(),
        tokens_until: policy.until(now, LONGEST),
        links_until: policy.until(now, Duration::from_secs(LONGEST_LINK.into())),
    });
    let all = gone.chain(known.previous.iter().cloned());
    let mut previous: Vec<Previous> = all.filter(|p| !is_held(&p.jwk) && p.links_until > now).collect();
    previous.sort_by_key(|previous| Reverse(previous.links_until));
    previous.truncate(MAX_PREVIOUS);
    let believed = previous.iter().filter(|previous| previous.tokens_until > now).map(|previous| &previous.jwk);
    Public { tokens: held.iter().copied().chain(believed).cloned().collect(), previous }
}

fn after(time: Timestamp, by: Duration) -> Timestamp {
    time.checked_add(by).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
