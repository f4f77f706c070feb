//! What the path from a publisher carries, as its receiver can tell (draft-ietf-rmcat-gcc-02 with the estimate on this
//! side): for publishers without transport-wide feedback, which are told by REMB.
//!
//! The delay is judged by when the publisher says that packets were sent (abs-send-time). Where it does not say, loss is
//! all there is to go by.

use super::Bounds;
use super::Micros;
use super::arriving::Arriving;
use super::groups::Groups;
use super::rate::Rate;
use super::trend::{Trend, Usage};

/// How often the publisher is told.
const INTERVAL: Micros = 500_000;
/// An estimate that has fallen to this part of what was told is told at once.
const FELL: f64 = 0.97;
/// While no limit was met, this much of what arrives is taken to be possible: the publisher has nothing to probe with.
const START: f64 = 2.0;
/// What a reaction of the publisher takes. Its round trip is not known here.
const ROUND_TRIP: Micros = 100_000;
/// The rate is looked at no less often than this.
const UPDATE: Micros = 50_000;
/// Loss that asks for no more, and loss that asks for less.
const SOME_LOSS: f64 = 0.02;
const MUCH_LOSS: f64 = 0.10;
/// Loss of a path that is given far more than it carries.
const FLOODED: f64 = 0.5;
/// Where the unwrapped clock of the publisher begins, so that what is late does not precede it.
const CLOCK_BEGIN: i64 = 1 << 40;

/// The path from one publisher.
#[derive(Debug)]
pub(crate) struct Receiving {
    groups: Groups,
    trend: Trend,
    arriving: Arriving,
    rate: Rate,
    /// The latest 24 bits of the publisher's clock, and the same without their wraps.
    clock: Option<(u32, i64)>,
    met_limit: bool,
    hold: bool,
    updated: Micros,
    told: Option<f64>,
}

impl Receiving {
    pub fn new(bounds: Bounds) -> Self {
        Self {
            groups: Groups::default(),
            trend: Trend::default(),
            arriving: Arriving::default(),
            rate: Rate::new(bounds.initial, (bounds.least, bounds.most)),
            clock: None,
            met_limit: false,
            hold: false,
            updated: 0,
            told: None,
        }
    }

    /// A packet arrived. `sent`: its abs-send-time. Returns in how many microseconds the publisher is to be told.
    pub fn arrived(&mut self, sent: Option<u32>, bytes: usize, now: Micros) -> Micros {
        let arrival = now as i64;
        let sent = sent.map(|sent| self.unwrap(sent));
        self.arriving.add(bytes.min(usize::from(u16::MAX)) as u16, sent.unwrap_or(arrival), arrival);
        let spacing = sent.and_then(|sent| self.groups.add(sent as Micros, arrival));
        if let Some(spacing) = spacing {
            self.trend.add(spacing);
        }
        if spacing.is_some() || now.saturating_sub(self.updated) >= UPDATE {
            self.updated = now;
            self.update(now);
        }
        match self.told {
            Some(told) if self.rate.current() > FELL * told => INTERVAL,
            _ => 0,
        }
    }

    fn update(&mut self, now: Micros) {
        let usage = self.trend.usage();
        self.met_limit |= usage == Usage::Over;
        let arriving = self.arriving.rate();
        if let Some(arriving) = arriving.filter(|_| !self.met_limit && !self.hold) {
            self.rate.proven(START * arriving);
        }
        self.rate.update(usage, arriving, ROUND_TRIP, self.hold, now);
    }

    /// This fraction of the packets since the last report did not come.
    pub fn lost(&mut self, fraction: f64, now: Micros) {
        self.hold = fraction > SOME_LOSS;
        if fraction > MUCH_LOSS {
            self.met_limit = true;
            let reduced = (1.0 - 0.5 * fraction) * self.rate.current();
            // A queue that stays full shows no delay that grows: then what arrives is all that there is.
            let arriving = self.arriving.rate().filter(|_| fraction > FLOODED);
            self.rate.limit(arriving.map_or(reduced, |arriving| arriving.min(reduced)), now);
        }
    }

    /// What the path is taken to carry, in bits per second. The publisher is told.
    pub fn tell(&mut self) -> f64 {
        *self.told.insert(self.rate.current())
    }

    /// What the publisher was told last.
    pub fn told(&self) -> Option<f64> {
        self.told
    }

    /// Microseconds of the publisher's clock, without the wraps of 64 seconds.
    fn unwrap(&mut self, sent: u32) -> i64 {
        let ticks = match self.clock {
            None => CLOCK_BEGIN,
            // The sign of 24 bits.
            Some((last, ticks)) => ticks + i64::from((sent.wrapping_sub(last) << 8) as i32 >> 8),
        };
        if self.clock.is_none_or(|(_, newest)| ticks > newest) {
            self.clock = Some((sent, ticks));
        }
        // A publisher may claim to have slept for half a minute before each packet.
        ((i128::from(ticks) * 1_000_000) >> 18) as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BOUNDS: Bounds = Bounds { initial: 600_000.0, least: 50_000.0, most: 50e6 };

    /// 24 bits of 6.18 fixed point seconds.
    fn stamp(micros: i64) -> u32 {
        ((micros << 18) / 1_000_000) as u32 & 0x00ff_ffff
    }

    /// A publisher that sends as it was told last over a link of `capacity` with a queue of 300 ms, for `seconds`. Returns
    /// the mean estimate over the last half, and the longest queue meanwhile.
    fn run(receiving: &mut Receiving, capacity: f64, from: i64, seconds: i64, stamps: bool) -> (f64, i64) {
        const BYTES: usize = 1200;
        let (mut free, mut sum, mut count, mut longest) = (from, 0.0, 0, 0);
        let (mut told, mut tell_at) = (BOUNDS.initial.min(300_000.0), None::<i64>);
        let (mut now, mut budget) = (from, 0.0);
        let (mut sent_count, mut lost_count, mut report) = (0, 0, from + 1_000_000);
        while now < from + seconds * 1_000_000 {
            // A frame in 33 ms, of as many packets as fit.
            budget += told * 0.033_333 / 8.0 / BYTES as f64;
            while budget >= 1.0 {
                budget -= 1.0;
                let leaves = free.max(now) + (BYTES as f64 * 8e6 / capacity) as i64;
                sent_count += 1;
                if leaves - now > 300_000 {
                    lost_count += 1;
                    continue;
                }
                free = leaves;
                let arrival = leaves + 20_000;
                let due = receiving.arrived(stamps.then(|| stamp(now)), BYTES, arrival as Micros);
                let at = arrival + due as i64;
                tell_at = Some(tell_at.map_or(at, |before| before.min(at)));
                if now > from + seconds * 500_000 {
                    longest = longest.max(leaves - now);
                    sum += receiving.rate.current();
                    count += 1;
                }
            }
            now += 33_333;
            if now > report {
                receiving.lost(f64::from(lost_count) / f64::from(sent_count), now as Micros);
                (sent_count, lost_count, report) = (0, 0, report + 1_000_000);
            }
            if tell_at.is_some_and(|at| at <= now) {
                told = receiving.tell();
                tell_at = None;
            }
        }
        (sum / f64::from(count.max(1)), longest)
    }

    #[test]
    fn it_finds_what_the_path_carries_and_keeps_its_queue_short() {
        for capacity in [700e3, 1.5e6, 4e6, 10e6] {
            let mut receiving = Receiving::new(BOUNDS);
            let (mean, longest) = run(&mut receiving, capacity, 50_000_000, 40, true);
            println!("{capacity}: {:.0} %, queue {} ms", mean / capacity * 100.0, longest / 1000);
            assert!((0.6..1.1).contains(&(mean / capacity)), "{capacity}: {mean}");
            assert!(longest < 250_000, "{capacity}: {longest}");
        }
    }

    #[test]
    fn without_send_times_loss_alone_keeps_it_in_bounds() {
        let mut receiving = Receiving::new(BOUNDS);
        let (mean, _) = run(&mut receiving, 1e6, 1_000_000, 60, false);
        assert!((0.5e6..1.6e6).contains(&mean), "{mean}");
    }

    #[test]
    fn a_free_path_is_found_within_seconds() {
        let mut receiving = Receiving::new(BOUNDS);
        run(&mut receiving, 100e6, 1_000_000, 4, true);
        assert!(receiving.tell() > 5e6, "{:?}", receiving.told());
    }

    #[test]
    fn a_clock_that_leaps_with_each_packet_overflows_nothing() {
        let mut receiving = Receiving::new(BOUNDS);
        for packet in 0..3_000_000u32 {
            receiving.arrived(Some(packet.wrapping_mul(0x7f_ffff) & 0x00ff_ffff), 1200, Micros::from(packet) * 1000);
        }
        assert!((BOUNDS.least..=BOUNDS.most).contains(&receiving.tell()));
    }

    proptest! {
        #[test]
        fn any_stamps_are_taken_and_the_bounds_hold(
            packets in prop::collection::vec((prop::option::of(0u32..1 << 24), 0usize..2000, 0u64..200_000), 0..300),
            losses in prop::collection::vec(0.0f64..=1.0, 0..10),
        ) {
            let mut receiving = Receiving::new(BOUNDS);
            let mut now = 0;
            for (i, (sent, bytes, wait)) in packets.into_iter().enumerate() {
                now += wait;
                receiving.arrived(sent, bytes, now);
                if let Some(loss) = losses.get(i / 30) {
                    receiving.lost(*loss, now);
                }
                let told = receiving.tell();
                prop_assert!((BOUNDS.least..=BOUNDS.most).contains(&told), "{}", told);
            }
        }
    }
}
