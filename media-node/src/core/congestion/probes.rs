//! Short bursts above the estimate, to learn whether the path carries more than is being sent. Without
//! them a subscriber that gets a low layer would never be known to have room for the next one.

use super::Micros;
use super::history::{Entry, Outcome};

/// How long a probe lasts.
const DURATION: Micros = 20_000;
/// Fewer packets measure nothing.
const LEAST_PACKETS: f64 = 6.0;
const PACKET_BYTES: f64 = 1100.0;
/// How far apart its packets leave.
pub(super) const STEP: Micros = 2_500;
/// Sent within less, in seconds, it has not been paced and says nothing.
const SHORTEST: f64 = 0.01;
/// A result that takes longer is none.
const PATIENCE: Micros = 1_500_000;
/// First factor on the estimate, and later ones.
const FIRST_FACTOR: f64 = 3.0;
const FACTOR: f64 = 2.0;
/// Beyond what is wanted, so that what is wanted fits with a margin.
const MARGIN: f64 = 1.25;
/// A probe that reaches this much of its aim has not found the limit.
const REACHED: f64 = 0.7;
/// Waiting times after one that has found it; it doubles.
const RETRY: (Micros, Micros) = (2_000_000, 6_000_000);
/// After the rate went down, the path gets this long.
const REST: Micros = 1_000_000;

/// A probe: being sent, or waiting for its result.
#[derive(Clone, Copy, Debug)]
struct Probe {
    /// Bits per second.
    aim: f64,
    /// Bytes.
    goal: f64,
    began: Micros,
    is_sending: bool,
    sent_packets: u32,
    sent_bytes: f64,
    reported: u32,
    heard: Heard,
}

/// What the subscriber has said about it.
#[derive(Clone, Copy, Debug, Default)]
struct Heard {
    packets: u32,
    bytes: f64,
    first_sent: Micros,
    last_sent: Micros,
    first_bytes: f64,
    last_bytes: f64,
    /// Last arrival of what was sent first.
    first_arrival: i64,
    last_arrival: i64,
}

/// Plans, sends and reads probes, one at a time.
#[derive(Debug)]
pub(crate) struct Probes {
    id: u8,
    probe: Option<Probe>,
    any_result: bool,
    not_before: Micros,
    began: Micros,
    retry: Micros,
    wanted: f64,
}

/// What is known when a probe is planned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Situation {
    /// Bits per second.
    pub estimate: f64,
    /// What gets through already, where more is sent than the estimate.
    pub arriving: f64,
    pub wanted: f64,
    pub most: f64,
    /// Delay steady and loss low.
    pub is_calm: bool,
    pub decreased: Option<Micros>,
}

impl Default for Probes {
    fn default() -> Self {
        Self { id: 0, probe: None, any_result: false, not_before: 0, began: 0, retry: RETRY.0, wanted: 0.0 }
    }
}

impl Probes {
    pub fn is_sending(&self) -> bool {
        self.probe.is_some_and(|p| p.is_sending)
    }

    /// What packets that leave now belong to; zero for no probe.
    pub fn cluster(&self) -> u8 {
        if self.is_sending() { self.id } else { 0 }
    }

    /// Begins a probe if there is a reason to; returns whether it did.
    pub fn plan(&mut self, situation: Situation, now: Micros) -> bool {
        let Situation { estimate, arriving, wanted, most, is_calm, decreased } = situation;
        if wanted > self.wanted * 1.1 {
            // There is a new reason.
            self.not_before = self.not_before.min(now + STEP);
            self.retry = RETRY.0;
        }
        self.wanted = wanted;
        if let Some(probe) = self.probe {
            if now.saturating_sub(probe.began) < PATIENCE {
                return false;
            }
            self.probe = None;
            self.back_off(now);
        }
        if let Some(at) = decreased.filter(|at| *at > self.began) {
            // What has been found out before does not hold any more.
            self.not_before = self.not_before.min(at + REST);
        }
        let rests = decreased.is_some_and(|at| now.saturating_sub(at) < REST);
        if rests || !is_calm || now < self.not_before || wanted <= estimate || estimate >= most {
            return false;
        }
        let factor = if self.any_result { FACTOR } else { FIRST_FACTOR };
        let aim = (estimate * factor).max(arriving * 1.2).min(wanted * MARGIN).min(most).max(estimate * 1.2);
        let goal = (aim / 8.0 * DURATION as f64 / 1e6).max(LEAST_PACKETS * PACKET_BYTES);
        self.id = self.id.wrapping_add(1).max(1);
        self.began = now;
        self.probe = Some(Probe {
            aim,
            goal,
            began: now,
            is_sending: true,
            sent_packets: 0,
            sent_bytes: 0.0,
            reported: 0,
            heard: Heard::default(),
        });
        true
    }

    /// Bytes that are to leave now for the probe to keep its rate.
    pub fn due(&self, now: Micros) -> usize {
        let Some(probe) = self.probe.filter(|p| p.is_sending) else { return 0 };
        let passed = now.saturating_sub(probe.began) + STEP;
        let due = (probe.aim / 8.0 * passed as f64 / 1e6).min(probe.goal);
        (due - probe.sent_bytes).max(0.0) as usize
    }

    /// A packet has left.
    pub fn sent(&mut self, bytes: usize) {
        if let Some(probe) = self.probe.as_mut().filter(|p| p.is_sending) {
            probe.sent_packets += 1;
            probe.sent_bytes += bytes as f64;
        }
    }

    /// The packets of one moment have left: the probe may be complete.
    pub fn step(&mut self) {
        if let Some(probe) = &mut self.probe {
            probe.is_sending &= probe.sent_bytes < probe.goal;
        }
    }

    /// There is nothing left that could be sent.
    pub fn give_up(&mut self, now: Micros) {
        if self.is_sending() {
            self.probe = None;
            self.back_off(now);
        }
    }

    /// A packet of a probe was reported on for the first time.
    pub fn reported(&mut self, entry: Entry, arrival: Option<i64>) {
        let Some(probe) = self.probe.as_mut().filter(|_| entry.cluster == self.id) else { return };
        probe.reported += 1;
        let (Some(arrival), Outcome::Arrived) = (arrival, entry.outcome) else { return };
        let (heard, bytes) = (&mut probe.heard, f64::from(entry.bytes));
        if heard.packets == 0 {
            (heard.first_sent, heard.last_sent) = (entry.sent, entry.sent);
            (heard.first_arrival, heard.last_arrival) = (arrival, arrival);
        }
        heard.packets += 1;
        heard.bytes += bytes;
        if entry.sent == heard.first_sent {
            heard.first_bytes += bytes;
            heard.first_arrival = heard.first_arrival.max(arrival);
        }
        if entry.sent > heard.last_sent {
            (heard.last_sent, heard.last_bytes) = (entry.sent, 0.0);
        }
        if entry.sent == heard.last_sent {
            heard.last_bytes += bytes;
        }
        heard.last_arrival = heard.last_arrival.max(arrival);
    }

    /// The rate that the last probe has shown to go through, if it is complete and shows any.
    pub fn result(&mut self, now: Micros) -> Option<f64> {
        let probe = self.probe.filter(|p| !p.is_sending && p.reported >= p.sent_packets)?;
        self.probe = None;
        let rate = probe.heard.rate(probe.sent_packets);
        match rate {
            Some(rate) if rate >= REACHED * probe.aim => {
                self.any_result = true;
                self.retry = RETRY.0;
                self.not_before = now;
            }
            Some(_) => {
                self.any_result = true;
                self.back_off(now);
            }
            None => self.back_off(now),
        }
        rate
    }

    fn back_off(&mut self, now: Micros) {
        self.not_before = now + self.retry;
        self.retry = (self.retry * 2).min(RETRY.1);
    }
}

impl Heard {
    /// Bits per second; `None` if too little came, or what came contradicts itself.
    fn rate(&self, sent_packets: u32) -> Option<f64> {
        let sent_for = self.last_sent.saturating_sub(self.first_sent) as f64 / 1e6;
        let came_for = (self.last_arrival - self.first_arrival) as f64 / 1e6;
        let (but_last, but_first) = (self.bytes - self.last_bytes, self.bytes - self.first_bytes);
        if self.packets * 5 < sent_packets * 4 || sent_for < SHORTEST || came_for <= 0.0 {
            return None;
        }
        // What left or came in one lump says little about a rate.
        if but_last < 0.5 * self.bytes || but_first < 0.5 * self.bytes {
            return None;
        }
        // What left last has taken no time yet, what came first had taken it already.
        let sent = but_last * 8.0 / sent_for;
        let came = but_first * 8.0 / came_for;
        if came > 2.0 * sent {
            return None;
        }
        // A queue has formed: this is what the path carries, and it is to drain.
        Some(if came < 0.9 * sent { 0.95 * came } else { sent.min(came) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALM: Situation =
        Situation { estimate: 600_000.0, arriving: 0.0, wanted: 5e6, most: 50e6, is_calm: true, decreased: None };

    /// Sends a probe over a path of `capacity` and returns what it shows.
    fn probe(probes: &mut Probes, situation: Situation, capacity: f64, now: &mut Micros) -> Option<f64> {
        assert!(probes.plan(situation, *now));
        let (mut free, mut entries) = (0.0, vec![]);
        while probes.is_sending() {
            while probes.due(*now) > 0 {
                probes.sent(1100);
                let sent = *now as f64;
                free = f64::max(free, sent) + 1100.0 * 8e6 / capacity;
                let entry = Entry { sent: *now, bytes: 1100, cluster: probes.cluster(), outcome: Outcome::Arrived };
                entries.push((entry, free as i64 + 20_000));
            }
            probes.step();
            *now += STEP;
        }
        for (entry, arrival) in entries {
            probes.reported(entry, Some(arrival));
        }
        *now += 100_000;
        probes.result(*now)
    }

    #[test]
    fn a_free_path_shows_the_aim_and_a_narrow_one_its_capacity() {
        let (mut probes, mut now) = (Probes::default(), 1_000_000);
        let first = probe(&mut probes, CALM, 100e6, &mut now).unwrap();
        assert!((first / 1.8e6 - 1.0).abs() < 0.2, "{first}");
        let situation = Situation { estimate: first, ..CALM };
        let second = probe(&mut probes, situation, 100e6, &mut now).unwrap();
        assert!((second / (2.0 * first) - 1.0).abs() < 0.2, "{second}");
        let situation = Situation { estimate: second, wanted: 20e6, ..CALM };
        let third = probe(&mut probes, situation, 4e6, &mut now).unwrap();
        assert!((third / 3.8e6 - 1.0).abs() < 0.1, "{third}");
        assert!(!probes.plan(situation, now), "not again at once");
        now += RETRY.0;
        assert!(probes.plan(situation, now));
    }

    #[test]
    fn nobody_probes_for_what_nobody_wants_or_into_congestion() {
        let mut probes = Probes::default();
        assert!(!probes.plan(Situation { wanted: 500_000.0, ..CALM }, 10_000_000));
        assert!(!probes.plan(Situation { is_calm: false, ..CALM }, 10_000_000));
        assert!(!probes.plan(Situation { decreased: Some(9_900_000), ..CALM }, 10_000_000));
        assert!(probes.plan(Situation { decreased: Some(1_000_000), ..CALM }, 10_000_000));
    }

    #[test]
    fn claims_of_arrivals_faster_than_sent_show_nothing() {
        let (mut probes, mut now) = (Probes::default(), 1_000_000);
        assert!(probes.plan(CALM, now));
        let mut n = 0;
        while probes.is_sending() {
            while probes.due(now) > 0 {
                probes.sent(1100);
                n += 1;
                let entry = Entry { sent: now, bytes: 1100, cluster: 1, outcome: Outcome::Arrived };
                probes.reported(entry, Some(n * 100));
            }
            probes.step();
            now += STEP;
        }
        assert_eq!(probes.result(now), None);
    }

    #[test]
    fn a_probe_that_is_never_answered_ends() {
        let mut probes = Probes::default();
        assert!(probes.plan(CALM, 0));
        probes.sent(20_000);
        probes.step();
        assert!(!probes.plan(CALM, 1_000_000));
        assert!(!probes.plan(CALM, 2_000_000), "given up");
        assert!(probes.plan(CALM, 2_000_000 + RETRY.0));
    }
}
