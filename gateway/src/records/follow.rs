//! Sessions of rooms, from what the watches tell of them.
//!
//! Every replica does this for every room, since none knows whether another does. The statement makes one row of it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use callplane_crds::{CallRoom, condition};
use jiff::Timestamp;
use tokio::sync::mpsc;

use super::{database::Entry, event::Session};
use crate::{Gateway, rooms};

/// How often rooms are looked through at most, however often they change.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What was told of rooms, by uid.
#[derive(Default)]
struct Told(HashMap<String, Session>);

impl Told {
    /// The sessions of which there is something new to tell. Rooms that are not among `rooms` any more were deleted.
    fn news(&mut self, rooms: &[Arc<CallRoom>], now: Timestamp) -> Vec<Session> {
        let (mut news, mut told) = (Vec::new(), HashMap::with_capacity(rooms.len()));
        for session in rooms.iter().filter_map(|room| session(room)) {
            if self.0.remove(&session.uid).as_ref() != Some(&session) {
                news.push(session.clone());
            }
            told.insert(session.uid.clone(), session);
        }
        for (_, gone) in std::mem::replace(&mut self.0, told) {
            if gone.ended.is_none() {
                news.push(Session { ended: Some((now, "Deleted".to_owned())), ..gone });
            }
        }
        news
    }
}

fn session(room: &CallRoom) -> Option<Session> {
    let status = room.status.as_ref();
    let reason = || {
        let conditions = status.map(|s| s.conditions.as_slice()).unwrap_or_default();
        let ended = conditions.iter().find(|c| c.type_ == condition::room::ENDED && c.status == "True");
        ended.map_or_else(|| "Ended".to_owned(), |c| c.reason.clone())
    };
    Some(Session {
        uid: room.metadata.uid.clone()?,
        id: room.call_id(),
        host: rooms::host(room).map(str::to_owned),
        created: room.metadata.creation_timestamp.as_ref()?.0,
        started: status.and_then(|s| s.started_at.as_ref()).map(|at| at.0),
        ended: status.and_then(|s| s.ended_at.as_ref()).map(|at| (at.0, reason())),
    })
}

/// Tells `sessions` what is new, for as long as it is polled.
pub(super) async fn run(gateway: Gateway, sessions: mpsc::Sender<Entry>) {
    let (mut told, mut changes) = (Told::default(), gateway.cache.changes());
    loop {
        changes.borrow_and_update();
        // Before everything was listed, what is missing was not deleted.
        if gateway.cache.is_complete() {
            for session in told.news(&gateway.cache.rooms(), gateway.clock.now().wall) {
                if sessions.send(Entry::Session(session)).await.is_err() {
                    // The process ends.
                    return std::future::pending().await;
                }
            }
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
        if changes.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use callplane_crds::{CallRoomSpec, CallRoomStatus, condition::Status};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn room(uid: &str, started: Option<i64>, ended: Option<i64>) -> Arc<CallRoom> {
        let mut room = CallRoom::new("standup", CallRoomSpec::default());
        room.metadata.namespace = Some("team".into());
        room.metadata.uid = Some(uid.into());
        room.metadata.creation_timestamp = Some(Time(at(0)));
        let why = condition::condition(&[], "Ended", Status::True, "EmptyTimeout", String::new(), None, at(0));
        room.status = Some(CallRoomStatus {
            started_at: started.map(|s| Time(at(s))),
            ended_at: ended.map(|s| Time(at(s))),
            conditions: if ended.is_some() { vec![why] } else { vec![] },
            ..CallRoomStatus::default()
        });
        Arc::new(room)
    }

    #[test]
    fn a_session_is_told_when_it_begins_starts_and_ends_and_not_in_between() {
        let mut told = Told::default();
        let mut news = |rooms: &[Arc<CallRoom>], now| {
            let news = told.news(rooms, at(now));
            news.into_iter().map(|s| (s.uid, s.started, s.ended)).collect::<Vec<_>>()
        };
        let (a, b) = ("a".to_owned(), "b".to_owned());
        assert_eq!(news(&[room("a", None, None)], 1), [(a.clone(), None, None)]);
        assert_eq!(news(&[room("a", None, None)], 2), []);
        assert_eq!(news(&[room("a", Some(3), None)], 4), [(a.clone(), Some(at(3)), None)]);
        let ended = Some((at(5), "EmptyTimeout".to_owned()));
        assert_eq!(news(&[room("a", Some(3), Some(5))], 6), [(a, Some(at(3)), ended)]);
        assert_eq!(news(&[room("b", None, None)], 7), [(b.clone(), None, None)], "one that had ended may go");
        let deleted = Some((at(9), "Deleted".to_owned()));
        assert_eq!(news(&[], 9), [(b, None, deleted)]);
        assert_eq!(news(&[], 10), []);
    }
}
