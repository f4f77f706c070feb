//! Decides whether this process was paused: SIGSTOP, a frozen container, a suspended machine.
//!
//! A node that was away for longer than its lease lasts may have been declared lost, and its rooms may
//! have been given to others. It must not let anybody in before it has asked the API server again.
//! Being cut off from the API server is something else: a node that runs on goes on admitting.
//!
//! The guard compares the clocks now with the clocks when it last looked. A task looks every
//! [`TICK`]; the join path looks too ([`PauseGuard::check`]), so a join that is handled before the
//! task had its turn still finds the pause. Both the monotonic and the wall clock are compared, and the
//! longer gap counts: the monotonic one stands still while a machine sleeps or a virtual machine is
//! frozen, the wall clock is set forward afterwards. A wall clock corrected by more than a lease looks
//! the same and costs two lists.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tokio::sync::watch;

/// How long a lease lasts without renewal. Written into the Lease as `leaseDurationSeconds`.
pub const LEASE_DURATION: Duration = Duration::from_secs(8);

/// How often the clocks are looked at.
pub const TICK: Duration = Duration::from_millis(500);

/// A gap this long matters when the lease has run out in it or before: another node may have been told
/// to take over while this one could not answer.
const SHORTEST_PAUSE: Duration = Duration::from_secs(2);

/// Both clocks at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Goes forward only; may stand still while the machine sleeps.
    pub monotonic: Instant,
    /// May be set.
    pub wall: Timestamp,
}

impl Moment {
    /// Reads both clocks.
    pub fn read() -> Self {
        Self { monotonic: crate::system::now(), wall: crate::system::timestamp() }
    }

    /// How long after `earlier` this is, by the clock that says more.
    fn since(self, earlier: Self) -> Duration {
        let wall = self.wall.duration_since(earlier.wall);
        let wall = Duration::try_from(wall).unwrap_or_default();
        self.monotonic.saturating_duration_since(earlier.monotonic).max(wall)
    }
}

/// What the guard knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Pauses {
    /// Pauses found so far.
    pub count: u64,
    /// A pause was found and the rooms have not been listed since.
    pub fenced: bool,
}

/// The node was paused and does not know yet which rooms are still its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the node was paused and is asking the API server which rooms are its own; try again in a moment")]
pub struct Resyncing;

/// See the module. A cheap handle: clones share everything.
#[derive(Clone)]
pub struct PauseGuard {
    shared: Arc<Shared>,
}

struct Shared {
    clock: Box<dyn Fn() -> Moment + Send + Sync>,
    beat: Mutex<Beat>,
    pauses: watch::Sender<Pauses>,
}

struct Beat {
    looked: Moment,
    renewed: Moment,
}

impl Default for PauseGuard {
    fn default() -> Self {
        Self::new(Moment::read)
    }
}

impl PauseGuard {
    /// A guard on `clock`. Nothing is fenced.
    pub fn new(clock: impl Fn() -> Moment + Send + Sync + 'static) -> Self {
        let now = clock();
        let beat = Mutex::new(Beat { looked: now, renewed: now });
        let (pauses, _) = watch::channel(Pauses::default());
        Self { shared: Arc::new(Shared { clock: Box::new(clock), beat, pauses }) }
    }

    /// Looks at the clocks; says whether somebody may be let in.
    ///
    /// # Errors
    /// [`Resyncing`] when a pause was found, now or before, and [`Self::resynced`] was not called since.
    pub fn check(&self) -> Result<(), Resyncing> {
        let mut beat = self.beat();
        let now = (self.shared.clock)();
        let gap = now.since(beat.looked);
        let unrenewed = now.since(beat.renewed);
        beat.looked = now;
        let paused = gap >= LEASE_DURATION || (gap >= SHORTEST_PAUSE && unrenewed >= LEASE_DURATION);
        if paused {
            // Under the lock, so that whoever looks next finds the fence up.
            self.shared.pauses.send_modify(|p| *p = Pauses { count: p.count + 1, fenced: true });
            tracing::warn!(
                gap_ms = gap.as_millis(),
                "this process was paused; joins wait until the rooms are listed again"
            );
        }
        if self.shared.pauses.borrow().fenced { Err(Resyncing) } else { Ok(()) }
    }

    /// The lease was renewed by a request that was sent at `sent`.
    pub fn renewed(&self, sent: Moment) {
        self.beat().renewed = sent;
    }

    /// The rooms were listed completely after the first `count` pauses. Opens again, unless there was
    /// another pause meanwhile.
    pub fn resynced(&self, count: u64) {
        let _beat = self.beat();
        self.shared.pauses.send_if_modified(|p| {
            let opens = p.fenced && p.count == count;
            p.fenced &= !opens;
            opens
        });
    }

    /// Follows the pauses.
    pub fn watch(&self) -> watch::Receiver<Pauses> {
        self.shared.pauses.subscribe()
    }

    /// The clocks that it looks at.
    pub fn moment(&self) -> Moment {
        (self.shared.clock)()
    }

    /// Looks at the clocks every [`TICK`], for ever.
    pub async fn run(self) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            tick.tick().await;
            // What it finds goes to the watchers of the guard.
            let _ = self.check();
        }
    }

    fn beat(&self) -> MutexGuard<'_, Beat> {
        self.shared.beat.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A clock that tests move.
    #[derive(Clone)]
    struct Hands(Arc<Mutex<Moment>>);

    impl Hands {
        fn new() -> Self {
            Self(Arc::new(Mutex::new(Moment::read())))
        }

        fn guard(&self) -> PauseGuard {
            let hands = self.clone();
            PauseGuard::new(move || *hands.0.lock().unwrap())
        }

        fn run(&self, monotonic_ms: u64, wall_ms: i64) {
            let mut now = self.0.lock().unwrap();
            now.monotonic += Duration::from_millis(monotonic_ms);
            now.wall += jiff::SignedDuration::from_millis(wall_ms);
        }
    }

    #[test]
    fn a_node_that_runs_is_never_fenced_however_long_its_lease_is_not_renewed() {
        let hands = Hands::new();
        let guard = hands.guard();
        for _ in 0..1000 {
            hands.run(1900, 1900);
            assert_eq!(guard.check(), Ok(()));
        }
    }

    #[test]
    fn the_first_join_after_a_pause_finds_it_by_itself() {
        for (monotonic, wall, what) in [
            (9_000, 9_000, "stopped process"),
            (0, 60_000, "suspended machine: the monotonic clock stood still"),
            (9_000, -5_000, "the wall clock was set back meanwhile"),
        ] {
            let hands = Hands::new();
            let guard = hands.guard();
            assert_eq!(guard.check(), Ok(()), "{what}");
            hands.run(monotonic, wall);
            assert_eq!(guard.check(), Err(Resyncing), "{what}");
            hands.run(100, 100);
            assert_eq!(guard.check(), Err(Resyncing), "{what}: it stays so until the rooms are listed");
            assert_eq!(guard.watch().borrow().count, 1, "{what}: one pause is one pause");
            guard.resynced(1);
            assert_eq!(guard.check(), Ok(()), "{what}");
        }
    }

    #[test]
    fn a_short_pause_counts_when_the_lease_ran_out_in_it() {
        let hands = Hands::new();
        let guard = hands.guard();
        hands.run(1000, 1000);
        guard.check().unwrap();
        hands.run(3000, 3000);
        assert_eq!(guard.check(), Ok(()), "the lease is 4 s old");
        hands.run(1500, 1500);
        guard.check().unwrap();
        hands.run(3000, 3000);
        assert_eq!(guard.check(), Err(Resyncing), "the lease is 8.5 s old");

        let hands = Hands::new();
        let guard = hands.guard();
        for _ in 0..20 {
            hands.run(3000, 3000);
            guard.renewed(guard.moment());
            assert_eq!(guard.check(), Ok(()), "a slow machine that renews in time is not paused");
        }
    }

    #[test]
    fn a_list_from_before_the_last_pause_does_not_open() {
        let hands = Hands::new();
        let guard = hands.guard();
        hands.run(9000, 9000);
        assert_eq!(guard.check(), Err(Resyncing));
        hands.run(9000, 9000);
        assert_eq!(guard.check(), Err(Resyncing));
        guard.resynced(1);
        assert_eq!(guard.check(), Err(Resyncing));
        guard.resynced(2);
        assert_eq!(guard.check(), Ok(()));
    }

    #[tokio::test]
    async fn the_task_finds_a_pause_that_no_join_found() {
        let hands = Hands::new();
        let guard = hands.guard();
        let mut pauses = guard.watch();
        let task = tokio::spawn(guard.clone().run());
        hands.run(20_000, 20_000);
        pauses.wait_for(|p| p.fenced).await.unwrap();
        task.abort();
    }
}
