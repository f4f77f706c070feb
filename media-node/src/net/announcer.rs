//! From a worker to whoever hears of its events.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::mpsc::error::TrySendError;

use super::WorkerId;
use super::shared::{Directory, Listener};
use crate::core::command::Event;

/// Tells listeners of events, each in order and at its own pace: one that stands still holds up nobody else.
pub(super) struct Announcer {
    id: WorkerId,
    directory: Arc<Directory>,
    /// Number of the latest listener that is known.
    known: u64,
    listeners: Vec<(Listener, VecDeque<Event>)>,
    backlog: usize,
    lost: u64,
}

impl Announcer {
    /// Keeps up to `backlog` events for each listener beyond what it has room for.
    pub fn new(id: WorkerId, directory: Arc<Directory>, backlog: usize) -> Self {
        Self { id, directory, known: 0, listeners: Vec::new(), backlog, lost: 0 }
    }

    /// Whether there is anything left to tell anybody.
    pub fn is_behind(&self) -> bool {
        self.listeners.iter().any(|(_, backlog)| !backlog.is_empty())
    }

    pub fn add(&mut self, event: &Event) {
        let newcomers = self.directory.newcomers(&mut self.known);
        self.listeners.extend(newcomers.into_iter().map(|listener| (listener, VecDeque::new())));
        for (_, backlog) in &mut self.listeners {
            if backlog.len() == self.backlog {
                if self.lost == 0 {
                    tracing::warn!(worker = self.id, "a listener of media events is too slow; it loses events");
                }
                self.lost += 1;
                backlog.pop_front();
            }
            backlog.push_back(event.clone());
        }
    }

    /// Tells what there is room for. Returns how many events were lost since the last time.
    pub fn flush(&mut self) -> u64 {
        let id = self.id;
        self.listeners.retain_mut(|(listener, backlog)| {
            while let Some(event) = backlog.pop_front() {
                match listener.try_reserve() {
                    Ok(permit) => permit.send((id, event)),
                    Err(TrySendError::Full(())) => {
                        backlog.push_front(event);
                        break;
                    }
                    Err(TrySendError::Closed(())) => return false,
                }
            }
            true
        });
        std::mem::take(&mut self.lost)
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;
    use crate::core::command::RoomId;

    fn event(i: u64) -> Event {
        Event::ActiveSpeaker { room: RoomId(i), producer: None }
    }

    fn heard(listener: &mut mpsc::Receiver<(WorkerId, Event)>) -> Vec<u64> {
        std::iter::from_fn(|| listener.try_recv().ok())
            .filter_map(|(_, event)| match event {
                Event::ActiveSpeaker { room, .. } => Some(room.0),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn a_listener_that_stands_still_holds_up_nobody_and_loses_only_its_own() {
        let directory = Arc::new(Directory::default());
        let ((stuck, mut behind), (quick, mut ahead)) = (mpsc::channel(2), mpsc::channel(64));
        directory.listen(stuck);
        directory.listen(quick);
        let mut announcer = Announcer::new(3, directory.clone(), 4);
        let mut lost = 0;
        for i in 0..10 {
            announcer.add(&event(i));
            lost += announcer.flush();
        }
        assert_eq!(heard(&mut ahead), (0..10).collect::<Vec<_>>(), "all at once and in order");
        assert_eq!((lost, announcer.is_behind()), (4, true));
        let mut late = Vec::new();
        while announcer.is_behind() {
            late.extend(heard(&mut behind));
            assert_eq!(announcer.flush(), 0);
        }
        late.extend(heard(&mut behind));
        assert_eq!(late, [0, 1, 6, 7, 8, 9], "the oldest of what it had no room for are gone");

        // Whoever comes later hears what comes later; whoever has gone is forgotten.
        let (newcomer, mut new) = mpsc::channel(4);
        directory.listen(newcomer);
        drop(ahead);
        announcer.add(&event(10));
        announcer.flush();
        assert_eq!((heard(&mut new), heard(&mut behind), announcer.listeners.len()), (vec![10], vec![10], 2));
    }
}
