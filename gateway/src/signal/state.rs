//! The table of a room: its members, its chat, and what happened lately. Pure.

use std::collections::{BTreeMap, VecDeque};

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::member::{Change, ChatMessage, Member, Parting, Told};

/// How long a dropped socket may take to come back.
pub const GRACE: SignedDuration = SignedDuration::from_secs(30);
/// Changes that are kept for clients that come back, and bytes of them. Who missed more is told that it was not resumed.
const MAX_CHANGES: usize = 256;
const MAX_CHANGE_BYTES: usize = 128 * 1024;
/// Lines of the chat that newcomers are told, and bytes of them. Earlier ones are forgotten.
pub const MAX_CHAT: usize = 50;
const MAX_CHAT_BYTES: usize = 32 * 1024;

/// The place of a change in a room's order, for clients an opaque word. `<n>-<n>` is the id of an entry of the Redis
/// stream; others begin with a letter and are one replica's own.
pub type Seq = String;

/// The beginning: nothing has happened.
pub const BEGINNING: &str = "0-0";

/// One thing that a client missed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Missed {
    /// Name of the event.
    pub event: &'static str,
    /// Its data.
    pub data: Told,
    /// Its place.
    pub seq: Seq,
}

/// What happened lately, in order.
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    /// Everything after this is here.
    base: Seq,
    changes: VecDeque<(Seq, Change, usize)>,
    bytes: usize,
}

impl Log {
    /// Everything after `base` will be here.
    pub fn after(base: Seq) -> Self {
        Self { base, changes: VecDeque::new(), bytes: 0 }
    }

    /// Adds what happened next.
    pub fn push(&mut self, seq: Seq, change: Change) {
        let size = serde_json::to_string(&change).map_or(0, |text| text.len());
        self.bytes += size;
        self.changes.push_back((seq, change, size));
        while self.changes.len() > MAX_CHANGES || self.bytes > MAX_CHANGE_BYTES {
            let Some((seq, _, size)) = self.changes.pop_front() else { break };
            self.base = seq;
            self.bytes -= size;
        }
    }

    /// The place of the last change.
    pub fn last(&self) -> &Seq {
        self.changes.back().map_or(&self.base, |(seq, _, _)| seq)
    }

    /// What `user` was not told after `seq`; `None` if that is not known whole.
    pub fn missed(&self, seq: &str, user: &str) -> Option<Vec<Missed>> {
        let of_change = seq.split('#').next().unwrap_or_default();
        let told = |(seq, change, _): &(Seq, Change, usize)| placed(seq, change);
        let later: Vec<(Seq, Told)> = match self.changes.iter().position(|(at, _, _)| at == of_change) {
            Some(at) => {
                let mut later: Vec<_> = self.changes.iter().skip(at).flat_map(told).collect();
                // A change that nobody is told of is known by its place all the same.
                let known = later.iter().position(|(at, _)| at == seq).map_or(0, |at| at + 1);
                later.drain(..known);
                later
            }
            None if seq == self.base => self.changes.iter().flat_map(told).collect(),
            None => return None,
        };
        let missed = later.into_iter().filter(|(_, told)| told.is_for(user));
        Some(missed.map(|(seq, data)| Missed { event: data.event(), data, seq }).collect())
    }
}

/// What clients are told of a change, each with a place of its own: the last one has the change's.
pub fn placed(seq: &Seq, change: &Change) -> Vec<(Seq, Told)> {
    let told = change.told();
    let last = told.len().saturating_sub(1);
    let place = |n| if n == last { seq.clone() } else { format!("{seq}#{n}") };
    told.into_iter().enumerate().map(|(n, told)| (place(n), told)).collect()
}

/// A room as all replicas see it.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// By user id, in byte order.
    pub members: BTreeMap<String, Member>,
    /// Oldest first.
    pub chat: VecDeque<ChatMessage>,
    /// Who was removed when: tokens made before let nobody in again.
    pub removed: BTreeMap<String, Timestamp>,
    /// What happened lately.
    pub log: Log,
}

impl Default for State {
    fn default() -> Self {
        let log = Log::after(BEGINNING.to_owned());
        Self { members: BTreeMap::new(), chat: VecDeque::new(), removed: BTreeMap::new(), log }
    }
}

impl State {
    /// Carries a change out, and answers whether it changed anything: one of a socket that was replaced does not.
    pub fn apply(&mut self, seq: Seq, change: Change) -> bool {
        let is_current = |members: &BTreeMap<String, Member>, user: &str, connection: &str| {
            members.get(user).is_some_and(|member| member.connection_id == connection)
        };
        match &change {
            Change::Joined { member, .. } | Change::Resumed { member } => {
                // One that was applied while the store was away comes back from there: that is no news.
                let is_news = !is_current(&self.members, member.user(), &member.connection_id);
                self.members.insert(member.user().to_owned(), member.clone());
                if !is_news {
                    return false;
                }
            }
            Change::Updated { member } | Change::State { member } | Change::Dropped { member } => {
                if !is_current(&self.members, member.user(), &member.connection_id) {
                    return false;
                }
                self.members.insert(member.user().to_owned(), member.clone());
            }
            Change::Left { user, connection, reason, at, .. } => {
                if !is_current(&self.members, user, connection) {
                    return false;
                }
                self.members.remove(user);
                if *reason == Parting::Removed {
                    self.removed.insert(user.clone(), *at);
                }
            }
            Change::Chat { message } => {
                if self.chat.iter().any(|line| line.id == message.id) {
                    // Likewise.
                    return false;
                }
                self.chat.push_back(message.clone());
                let mut bytes: usize = self.chat.iter().map(|message| message.text.len()).sum();
                while self.chat.len() > MAX_CHAT || bytes > MAX_CHAT_BYTES {
                    let Some(oldest) = self.chat.pop_front() else { break };
                    bytes -= oldest.text.len();
                }
            }
            Change::Quality { user, .. } => {
                if !self.members.contains_key(user) {
                    return false;
                }
            }
        }
        self.log.push(seq, change);
        true
    }

    /// Whether `user` has a place among `max` people: who is in has one, anybody else while one is left.
    pub fn has_place(&self, user: &str, max: usize) -> bool {
        self.members.contains_key(user) || self.members.len() < max
    }

    /// Whether all have acknowledged `epoch`. Somebody whose socket is gone has not, as long as it may come back:
    /// their media may still flow on the old route. Alone in a room that becomes peer to peer there is nobody to have media
    /// with.
    pub fn has_reached(&self, epoch: i64, may_be_alone: bool) -> bool {
        may_be_alone && self.members.len() < 2 || self.members.values().all(|member| member.acked >= epoch)
    }

    /// Members whose time to come back is up.
    pub fn given_up(&self, now: Timestamp) -> Vec<&Member> {
        let is_up = |member: &&Member| member.dropped.is_some_and(|at| now.duration_since(at) >= GRACE);
        self.members.values().filter(is_up).collect()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::signal::member::Participant;

    pub fn member(user: &str, connection: &str, acked: i64) -> Member {
        Member {
            participant: Participant {
                user_id: user.into(),
                display_name: None,
                role: "participant".into(),
                is_muted: false,
                is_video_on: true,
                joined_at: Timestamp::UNIX_EPOCH,
            },
            connection_id: connection.into(),
            session: format!("session of {user}"),
            replica: "g1".into(),
            acked,
            failed: 0,
            wish: None,
            dropped: None,
        }
    }

    fn joined(user: &str, connection: &str) -> Change {
        Change::Joined { member: member(user, connection, 0), again: false }
    }

    fn left(user: &str, connection: &str) -> Change {
        let (user, connection) = (user.to_owned(), connection.to_owned());
        Change::Left { user, connection, reason: Parting::Left, by: None, at: Timestamp::UNIX_EPOCH }
    }

    fn chat(n: usize, text: &str) -> Change {
        let (id, text) = (n.to_string(), text.to_owned());
        let at = Timestamp::UNIX_EPOCH;
        Change::Chat { message: ChatMessage { id, user_id: "ann".into(), display_name: None, text, at } }
    }

    #[test]
    fn a_socket_that_was_replaced_changes_nothing_any_more() {
        let mut state = State::default();
        assert!(state.apply("1-0".into(), joined("ann", "a")));
        assert!(!state.apply("1-0".into(), joined("ann", "a")), "what comes twice is no news");
        assert!(state.apply("2-0".into(), joined("ann", "b")));
        let dropped =
            Change::Dropped { member: Member { dropped: Some(Timestamp::UNIX_EPOCH), ..member("ann", "a", 0) } };
        for late in [left("ann", "a"), dropped, Change::Updated { member: member("ann", "a", 9) }] {
            assert!(!state.apply("3-0".into(), late));
        }
        assert_eq!((state.members["ann"].acked, state.members["ann"].dropped), (0, None));
        assert!(state.apply("4-0".into(), left("ann", "b")));
        assert!(state.members.is_empty());
    }

    #[test]
    fn what_was_missed_is_whole_or_not_known() {
        let mut state = State::default();
        assert_eq!(state.log.missed(BEGINNING, "ann"), Some(vec![]));
        state.apply("1-0".into(), joined("ann", "a"));
        state.apply("2-0".into(), joined("bob", "b"));
        state.apply("3-0".into(), chat(1, "hi"));
        let events = |seq: &str, user: &str| -> Option<Vec<String>> {
            let missed = state.log.missed(seq, user)?;
            Some(missed.into_iter().map(|missed| format!("{} {}", missed.event, missed.seq)).collect())
        };
        assert_eq!(events("1-0", "ann").unwrap(), ["call:participant-joined 2-0", "chat 3-0"]);
        assert_eq!(events("1-0", "bob").unwrap(), ["chat 3-0"], "of oneself one knows");
        assert_eq!(events("3-0", "bob").unwrap(), Vec::<String>::new());
        assert_eq!(events("2-5", "bob"), None);
        let again = Change::Joined { member: member("bob", "c", 0), again: true };
        let mut anew = state.clone();
        anew.apply("3-1".into(), again);
        let missed =
            |seq: &str| anew.log.missed(seq, "ann").unwrap().into_iter().map(|missed| missed.seq).collect::<Vec<_>>();
        assert_eq!(
            (missed("3-0"), missed("3-1#0"), missed("3-1")),
            (vec!["3-1#0".into(), "3-1".into()], vec!["3-1".into()], vec![])
        );
        for n in 0..MAX_CHANGES {
            state.apply(format!("4-{n}"), chat(n + 2, "x"));
        }
        assert_eq!(state.log.missed("2-0", "ann"), None, "that is forgotten");
        assert_eq!(state.log.missed("3-0", "ann").unwrap().len(), MAX_CHANGES, "and everything after this is there");
        assert_eq!(state.chat.len(), MAX_CHAT);
        for n in 0..40 {
            state.apply(format!("5-{n}"), chat(n + 1000, &"x".repeat(4096)));
        }
        assert!(state.chat.len() <= 8 && state.log.bytes <= MAX_CHANGE_BYTES);
    }

    #[test]
    fn all_have_reached_an_epoch_when_nobody_may_still_be_elsewhere() {
        for (acked, epoch, is_p2p, reached) in [
            (vec![], 2, false, true),
            (vec![1, 2], 2, true, false),
            (vec![2, 3], 2, true, true),
            (vec![1], 2, true, true),
            (vec![1], 2, false, false),
        ] {
            let mut state = State::default();
            for (n, acked) in acked.iter().enumerate() {
                state.members.insert(n.to_string(), member(&n.to_string(), "c", *acked));
            }
            assert_eq!(state.has_reached(epoch, is_p2p), reached, "{acked:?}");
        }
    }

    #[test]
    fn who_is_gone_for_long_is_given_up() {
        let mut state = State::default();
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        state.members.insert("ann".into(), Member { dropped: Some(at(10)), ..member("ann", "a", 0) });
        state.members.insert("bob".into(), member("bob", "b", 0));
        assert!(state.given_up(at(39)).is_empty());
        assert_eq!(state.given_up(at(40)).iter().map(|member| member.user()).collect::<Vec<_>>(), ["ann"]);
    }
}
