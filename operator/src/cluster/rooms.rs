//! Rooms in the index, and the reservations that follow from them.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use callplane_crds::{CallRoom, RouteMode, callroom::Phase, load::Demand};

use super::{Assumed, Cluster, Effects, RoomEntry, RoomKey, is_older, trail::Trail, waiting::Line};

impl Cluster {
    /// Takes in a room from the watch or from the answer to an own write. The index never goes back to an older version.
    pub fn apply_room(&mut self, room: CallRoom, now: Duration) -> Effects {
        let key: RoomKey = Arc::new(room.call_id());
        let mut effects = Effects::default();
        let known = self.rooms.get(&key);
        if let Some(known) = known {
            let old = &known.object.metadata;
            let new = &room.metadata;
            if is_older(new.resource_version.as_deref(), old.resource_version.as_deref()) {
                return effects;
            }
            if new.resource_version == old.resource_version && new.uid == old.uid {
                return effects;
            }
        }
        let same = known.is_some_and(|k| k.object.metadata.uid == room.metadata.uid);
        let before = known.map(|k| Counted::of(&k.object));
        let entry = match self.rooms.remove(&key) {
            Some(known) if same => {
                // A route is proven when the object shows its epoch, and refuted when it shows the epoch for another node.
                let shown = room.status.as_ref().and_then(|s| s.route.as_ref()).map_or(0, |r| r.epoch);
                let assumed = known.assumed.filter(|a| a.epoch > shown);
                let changed = if room.status == known.object.status { known.changed } else { now };
                let mut trail = known.trail;
                trail.follow(known.object.status.as_ref(), room.status.as_ref(), now);
                RoomEntry { object: Arc::new(room), assumed, changed, trail, ..known }
            }
            other => RoomEntry {
                assumed: None,
                written: None,
                first_seen: now,
                changed: now,
                trail: Trail::of(room.status.as_ref(), now),
                object: Arc::new(room),
                held_on: other.map(|o| o.held_on).unwrap_or_default(),
            },
        };
        let after = Counted::of(&entry.object);
        self.rooms.insert(key.clone(), entry);
        self.count(before, Some(after));
        self.refresh_holds(&key, &mut effects);
        effects.rooms.push(key);
        effects
    }

    /// Takes in the answer to an own write. What was deleted meanwhile stays deleted.
    pub fn answer_room(&mut self, room: CallRoom, now: Duration) -> Effects {
        let known = self.rooms.get(&room.call_id());
        if known.is_some_and(|k| k.object.metadata.uid == room.metadata.uid) {
            self.apply_room(room, now)
        } else {
            Effects::default()
        }
    }

    /// Forgets a room. `uid` guards against forgetting its successor of the same name.
    pub fn remove_room(&mut self, key: &RoomKey, uid: Option<&str>) -> Effects {
        let mut effects = Effects::default();
        let Some(entry) = self.rooms.get(key) else { return effects };
        if uid.is_some() && entry.object.metadata.uid.as_deref() != uid {
            return effects;
        }
        let before = Counted::of(&entry.object);
        self.count(Some(before), None);
        if let Some(entry) = self.rooms.get_mut(key) {
            entry.assumed = None;
        }
        self.waiting.remove(key);
        self.release_all(key, &mut effects);
        self.rooms.remove(key);
        effects
    }

    /// Forgets the rooms that a complete list did not name.
    pub fn retain_rooms(&mut self, listed: &std::collections::HashSet<RoomKey>) -> Effects {
        let gone: Vec<RoomKey> = self.rooms.keys().filter(|k| !listed.contains(*k)).cloned().collect();
        let mut effects = Effects::default();
        for key in gone {
            effects.merge(self.remove_room(&key, None));
        }
        effects
    }

    /// Reserves the place that a decision chose, before it is written.
    pub fn assume(&mut self, key: &RoomKey, assumed: Assumed) {
        if let Some(entry) = self.rooms.get_mut(key) {
            entry.assumed = Some(assumed);
            self.refresh_holds(key, &mut Effects::default());
        }
    }

    /// Gives a reservation back after the API server refused the write for good.
    pub fn refute(&mut self, key: &RoomKey, epoch: i64) -> Effects {
        let mut effects = Effects::default();
        if let Some(entry) = self.rooms.get_mut(key) {
            if entry.assumed.as_ref().is_some_and(|a| a.epoch == epoch) {
                entry.assumed = None;
            }
            self.refresh_holds(key, &mut effects);
        }
        effects
    }

    /// Notes that the room's status was written.
    pub fn wrote_room(&mut self, key: &RoomKey, now: Duration) {
        if let Some(entry) = self.rooms.get_mut(key) {
            entry.written = Some(now);
        }
    }

    /// Notes whether `key` waits for capacity. Returns who else may have a chance now that this one found its place.
    pub fn set_waiting(&mut self, key: &RoomKey, waits: bool) -> Effects {
        let mut effects = Effects::default();
        if waits {
            let has_route = self.rooms.get(key).is_some_and(|r| Counted::of(&r.object).mode.is_some());
            self.waiting.add(key, if has_route { Line::Live } else { Line::New });
        } else if self.waiting.remove(key) && self.waiting.len() >= super::waiting::WAKE_BATCH {
            self.wake_waiting(&mut effects);
        }
        effects
    }

    /// The rooms whose route or previous route names `node`, or is about to.
    pub fn rooms_on(&self, node: &str) -> impl Iterator<Item = &RoomKey> {
        self.nodes.get(node).into_iter().flat_map(|n| n.account.rooms())
    }

    fn count(&mut self, before: Option<Counted>, after: Option<Counted>) {
        for (standing, by) in before.map(|s| (s, -1)).into_iter().chain(after.map(|s| (s, 1))) {
            *self.phases.entry(standing.phase).or_default() += by;
            if let Some(mode) = standing.mode {
                *self.modes.entry(mode).or_default() += by;
            }
        }
    }

    fn refresh_holds(&mut self, key: &RoomKey, effects: &mut Effects) {
        let Some(entry) = self.rooms.get_mut(key) else { return };
        let status = entry.object.status.as_ref();
        let route = status.and_then(|s| s.route.as_ref()).and_then(|r| r.node.clone());
        let previous = status.and_then(|s| s.previous_route.as_ref()).and_then(|r| r.node.clone());
        let assumed = entry.assumed.as_ref().map(|a| a.node.clone());
        let wanted: BTreeSet<String> = route.into_iter().chain(previous).chain(assumed).collect();
        let demand = Demand::of_room(entry.object.spec.max_participants);
        let held = std::mem::replace(&mut entry.held_on, wanted.clone());
        for name in &wanted {
            let node = self.nodes.entry(name.clone()).or_default();
            node.account.hold(key, demand);
            if node.object.is_none() && node.gone.is_none() && !held.contains(name) {
                // The watch of nodes may lag behind that of rooms.
                effects.nodes.push(name.clone());
            }
        }
        let left: Vec<&String> = held.difference(&wanted).collect();
        self.release_on(key, left, effects);
    }

    fn release_all(&mut self, key: &RoomKey, effects: &mut Effects) {
        let held = self.rooms.get_mut(key).map(|e| std::mem::take(&mut e.held_on)).unwrap_or_default();
        self.release_on(key, held.iter().collect(), effects);
    }

    fn release_on(&mut self, key: &RoomKey, nodes: Vec<&String>, effects: &mut Effects) {
        for name in &nodes {
            let Some(node) = self.nodes.get_mut(*name) else { continue };
            node.account.release(key);
            if let Some(object) = &node.object {
                if object.spec.cordoned {
                    effects.pools.push(object.spec.pool.clone());
                }
            } else if node.is_forgettable() {
                self.nodes.remove(*name);
            }
        }
        if !nodes.is_empty() {
            self.wake_waiting(effects);
        }
    }
}

/// What rooms are counted by.
#[derive(Clone, Copy)]
struct Counted {
    phase: Phase,
    mode: Option<RouteMode>,
}

impl Counted {
    fn of(room: &CallRoom) -> Self {
        let status = room.status.as_ref();
        Self {
            phase: status.and_then(|s| s.phase).unwrap_or(Phase::Pending),
            mode: status.and_then(|s| s.route.as_ref()).map(|r| r.mode),
        }
    }
}

impl Effects {
    /// Adds `other`.
    pub fn merge(&mut self, other: Self) {
        self.urgent.extend(other.urgent);
        self.rooms.extend(other.rooms);
        self.nodes.extend(other.nodes);
        self.pools.extend(other.pools);
    }
}
