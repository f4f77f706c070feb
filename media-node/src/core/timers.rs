//! Which transport is to be woken when.

use std::collections::BTreeSet;
use std::time::Instant;

use super::slab::Key;

/// At most one entry per transport.
#[derive(Debug, Default)]
pub(crate) struct Timers(BTreeSet<(Instant, Key)>);

impl Timers {
    pub fn next(&self) -> Option<Instant> {
        self.0.first().map(|(at, _)| *at)
    }

    /// Moves a transport's entry.
    pub fn replace(&mut self, key: Key, from: Option<Instant>, to: Option<Instant>) {
        if let Some(from) = from {
            self.0.remove(&(from, key));
        }
        if let Some(to) = to {
            self.0.insert((to, key));
        }
    }

    /// Takes out the entries that are due.
    pub fn due(&mut self, now: Instant) -> Vec<Key> {
        let mut due = Vec::new();
        while let Some(&(at, key)) = self.0.first() {
            if at > now {
                break;
            }
            self.0.pop_first();
            due.push(key);
        }
        due
    }
}
