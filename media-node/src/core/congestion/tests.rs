//! One sender that fills what it is told it has, over links of all kinds.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use rtc::shared::marshal::Marshal;

use super::*;
use crate::core::random::Random;
use crate::core::testing::{Link, origin};
use crate::core::twcc::Arrivals;

const BOUNDS: Bounds = Bounds { initial: 600_000.0, least: 50_000.0, most: 50e6 };
const STEP: Duration = Duration::from_micros(500);

struct Path {
    start: Instant,
    now: Instant,
    congestion: Congestion,
    link: Link,
    delay: Duration,
    jitter: Duration,
    loss: f64,
    random: Random,
    /// Bits per second that the source has at most.
    source: f64,
    /// What it would have if it could; the same where this is not set.
    wanted: Option<f64>,
    waiting: VecDeque<(usize, Instant)>,
    next_frame: Instant,
    sequence: u16,
    in_flight: BTreeMap<(Instant, u64), u16>,
    count: u64,
    arrivals: Arrivals,
    reports: VecDeque<(Instant, Vec<u8>)>,
    next_report: Instant,
    probe_at: Option<Instant>,
    /// Longest wait in the pacer.
    longest_wait: Duration,
}

impl Path {
    fn new(rate: f64, seed: u64) -> Self {
        let start = origin();
        let mut congestion = Congestion::new(BOUNDS);
        congestion.expect_feedback();
        Self {
            start,
            now: start,
            congestion,
            link: Link::new(rate, Duration::from_millis(300), start),
            delay: Duration::from_millis(25),
            jitter: Duration::ZERO,
            loss: 0.0,
            random: Random::new(seed),
            source: 100e6,
            wanted: None,
            waiting: VecDeque::new(),
            next_frame: start,
            sequence: 0,
            in_flight: BTreeMap::new(),
            count: 0,
            arrivals: Arrivals::new(start),
            reports: VecDeque::new(),
            next_report: start,
            probe_at: None,
            longest_wait: Duration::ZERO,
        }
    }

    fn micros(&self) -> Micros {
        (self.now - self.start).as_micros() as Micros
    }

    fn estimate(&self) -> f64 {
        self.congestion.available(self.micros()).unwrap()
    }

    fn leave(&mut self, bytes: usize) {
        let now = self.micros();
        self.congestion.stamped(bytes, now);
        self.congestion.left(bytes, now);
        let sequence = self.sequence;
        self.sequence = sequence.wrapping_add(1);
        let lost = f64::from(self.random.u32()) < self.loss * f64::from(u32::MAX);
        let Some(leaves) = self.link.enter(bytes, self.now) else { return };
        if !lost {
            let extra = self.random.u64() % (self.jitter.as_micros() as u64 + 1);
            self.count += 1;
            self.in_flight.insert((leaves + self.delay + Duration::from_micros(extra), self.count), sequence);
        }
    }

    fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.now < end {
            self.now += STEP;
            self.step();
        }
    }

    fn step(&mut self) {
        let now = self.micros();
        if self.now >= self.next_frame {
            self.next_frame += Duration::from_micros(33_333);
            let rate = self.estimate().min(self.source);
            let packets = (rate / 30.0 / 8.0 / 1100.0 + (self.random.u32() % 100) as f64 / 100.0) as usize;
            self.waiting.extend((0..packets).map(|_| (1100, self.now)));
            self.congestion.want(self.wanted.unwrap_or(self.source));
            self.congestion.tick(now);
            if self.waiting.len() < 20 && self.congestion.plan_probe(now) {
                self.probe_at = Some(self.now);
            }
        }
        if self.probe_at.is_some_and(|at| self.now >= at) {
            let mut due = self.congestion.probe_due(now);
            while due > 0 {
                self.leave(1100);
                due = due.saturating_sub(1100);
            }
            self.congestion.probe_step();
            let wait = Duration::from_micros(self.congestion.wait());
            self.probe_at = self.congestion.is_probing().then(|| self.now + wait);
        }
        while let Some((bytes, since)) = self.waiting.front().copied() {
            if !self.congestion.has_room(self.waiting.len() * 1100, now) {
                break;
            }
            self.waiting.pop_front();
            self.longest_wait = self.longest_wait.max(self.now - since);
            self.leave(bytes);
        }
        while let Some(entry) = self.in_flight.first_entry() {
            let (at, _) = *entry.key();
            if at > self.now {
                break;
            }
            let sequence = entry.remove();
            self.arrivals.record(sequence, at);
        }
        if self.now >= self.next_report {
            self.next_report += Duration::from_millis(50);
            while let Some(report) = self.arrivals.report(1, 2) {
                self.reports.push_back((self.now + self.delay, report.marshal().unwrap().to_vec()));
            }
        }
        while self.reports.front().is_some_and(|(at, _)| self.now >= *at) {
            let (_, report) = self.reports.pop_front().unwrap();
            self.congestion.on_feedback(&report, now);
        }
    }

    /// Mean estimate over a time.
    fn mean(&mut self, duration: Duration) -> f64 {
        let rounds = duration.as_millis() / 100;
        let mut sum = 0.0;
        for _ in 0..rounds {
            self.run(Duration::from_millis(100));
            sum += self.estimate();
        }
        sum / rounds as f64
    }
}

#[test]
fn it_finds_the_capacity_of_narrow_and_wide_links() {
    for capacity in [300e3, 700e3, 1.5e6, 4e6, 10e6, 20e6] {
        for seed in [1, 2, 3] {
            let mut path = Path::new(capacity, seed);
            path.jitter = Duration::from_millis(3);
            path.run(Duration::from_secs(12));
            path.link.longest = Duration::ZERO;
            let mean = path.mean(Duration::from_secs(20));
            println!(
                "{capacity:>10} {seed}: {mean:.0} = {:.2}, queue {:?}, waits {:?}, dropped {}",
                mean / capacity,
                path.link.longest,
                path.longest_wait,
                path.link.dropped
            );
            assert!((0.8..=1.2).contains(&(mean / capacity)), "{mean} of {capacity}");
        }
    }
}

#[test]
fn a_capacity_that_halves_is_followed_within_a_second() {
    for capacity in [1e6, 3e6, 10e6] {
        let mut path = Path::new(capacity, 4);
        path.run(Duration::from_secs(15));
        path.link.rate = capacity / 2.0;
        path.link.longest = Duration::ZERO;
        path.run(Duration::from_millis(1200));
        let after = path.estimate();
        let queue = path.link.longest;
        path.run(Duration::from_secs(2));
        path.link.longest = Duration::ZERO;
        let mean = path.mean(Duration::from_secs(5));
        println!("{capacity}: {after} after 1.2 s, {mean} later; queue {queue:?} then {:?}", path.link.longest);
        assert!(after <= 0.6 * capacity, "{after} of {}", capacity / 2.0);
        assert!(mean >= 0.3 * capacity, "{mean}");
        assert!(path.link.longest < Duration::from_millis(150), "{:?}", path.link.longest);
        path.link.rate = capacity;
        path.run(Duration::from_secs(8));
        let restored = path.mean(Duration::from_secs(5));
        println!("restored: {restored}");
        assert!(restored > 0.75 * capacity, "{restored} of {capacity}");
    }
}

#[test]
fn random_loss_is_not_taken_for_congestion() {
    for loss in [0.01, 0.05] {
        let mut path = Path::new(4e6, 5);
        path.loss = loss;
        path.jitter = Duration::from_millis(5);
        path.run(Duration::from_secs(15));
        let mean = path.mean(Duration::from_secs(15));
        println!("{loss}: {mean}");
        assert!(mean > 2.4e6, "{mean} at {loss}");
    }
}

#[test]
fn a_queue_too_short_for_delay_is_seen_as_loss() {
    let mut path = Path::new(2e6, 6);
    path.link.queue = Duration::from_millis(25);
    path.run(Duration::from_secs(20));
    let (dropped, count) = (path.link.dropped, path.count);
    let mean = path.mean(Duration::from_secs(20));
    let lost = (path.link.dropped - dropped) as f64 / (path.count - count) as f64;
    println!("{mean}, lost {lost}");
    assert!(mean > 0.6e6, "{mean}");
    assert!(lost < 0.15, "{lost}");
}

#[test]
fn cross_traffic_is_given_way_to_and_its_room_taken_back() {
    let mut path = Path::new(4e6, 7);
    path.run(Duration::from_secs(12));
    path.link.cross = 2.5e6;
    path.run(Duration::from_secs(3));
    path.link.longest = Duration::ZERO;
    let shared = path.mean(Duration::from_secs(10));
    println!("{shared}, queue {:?}", path.link.longest);
    assert!((0.6e6..1.8e6).contains(&shared), "{shared}");
    path.link.cross = 0.0;
    path.run(Duration::from_secs(8));
    let alone = path.mean(Duration::from_secs(5));
    println!("{alone}");
    assert!(alone > 3e6, "{alone}");
}

#[test]
fn what_is_not_used_is_known_from_probes_and_kept() {
    // A layer of 500 kbit/s, the next would be two megabits more.
    let mut path = Path::new(4e6, 8);
    path.source = 500e3;
    path.wanted = Some(2.5e6);
    let mut lowest = f64::MAX;
    for second in 0..60 {
        for _ in 0..10 {
            path.run(Duration::from_millis(100));
            if second > 2 {
                lowest = lowest.min(path.estimate());
            }
        }
    }
    println!("lowest {lowest}, queue {:?}", path.link.longest);
    assert!(lowest > 2.2e6, "{lowest}");
}

#[test]
fn a_path_that_goes_silent_is_spared() {
    let mut path = Path::new(4e6, 9);
    path.run(Duration::from_secs(10));
    let before = path.estimate();
    path.loss = 1.0;
    path.run(Duration::from_secs(5));
    let during = path.estimate();
    path.loss = 0.0;
    path.run(Duration::from_secs(10));
    println!("{before} {during} {}", path.estimate());
    assert!(during < before / 4.0, "{during}");
    assert!(path.estimate() > 3e6, "{}", path.estimate());
}

#[test]
fn forged_reports_raise_nothing_beyond_what_was_sent() {
    for seed in 0..20 {
        let mut random = Random::new(seed);
        let mut path = Path::new(300e3, seed);
        path.source = 200e3;
        for _ in 0..200 {
            path.run(Duration::from_millis(50));
            // Everything arrived, at once, long ago or in the future, in a dozen versions.
            for _ in 0..12 {
                let mut arrivals = Arrivals::new(path.start);
                let (back, step) = (random.u32() as u16 % 300, 1 + random.u32() % 3);
                let at = path.start + Duration::from_millis(random.u64() % 20_000);
                for i in 0..back {
                    arrivals.record(
                        path.sequence.wrapping_sub(back - i),
                        at + Duration::from_micros(u64::from(u32::from(i) * step * 10)),
                    );
                }
                while let Some(report) = arrivals.report(1, 2) {
                    let mut bytes = report.marshal().unwrap().to_vec();
                    if random.u32().is_multiple_of(4) {
                        let at = random.u32() as usize % bytes.len();
                        bytes[at] ^= 1 << (random.u32() % 8);
                    }
                    let now = path.micros();
                    path.congestion.on_feedback(&bytes, now);
                }
            }
        }
        assert!(path.estimate() < 1.5e6, "{} by seed {seed}", path.estimate());
    }
}
