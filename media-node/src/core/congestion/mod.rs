//! Congestion control towards one subscriber: how much its path carries, learned from what it reports
//! (transport-wide feedback, else REMB), and when packets may leave.
//!
//! ```text
//! sealed ─ history ─ pacer ─ socket        what left when, and what may leave now
//! feedback ─┬ groups ─ trend ─ rate        does the delay grow? (delay-based estimate)
//!           ├ arriving                     what arrives bounds what is believed
//!           ├ loss                         queues too short to be seen as delay
//!           ├ queue                        does it harm? (before pictures are held back whole)
//!           └ probes                       is there more than is being used?
//! ```
//!
//! The algorithm is Google congestion control (draft-ietf-rmcat-gcc-02) with libwebrtc's line fit and
//! probing. Its parts serve the other direction, too, where a publisher leaves the judgement to its receiver
//! ([`Receiving`]). Times are microseconds since the core's epoch; subscribers' times are of their own clock.

pub(crate) mod allocation;
mod arriving;
mod feedback;
mod groups;
mod history;
mod loss;
mod pacer;
mod probes;
mod queue;
mod rate;
mod receiving;
mod remb;
mod trend;

#[cfg(test)]
mod tests;

pub(crate) use receiving::Receiving;
pub(crate) use remb::parse as parse_remb;

use arriving::Arriving;
use feedback::{Feedback, References, Status};
use groups::Groups;
use history::{History, Outcome};
use loss::{Loss, Verdict};
use pacer::Pacer;
use probes::{Probes, Situation};
use queue::Queue;
use rate::Rate;
use trend::{Trend, Usage};

/// Microseconds since the core's epoch.
pub(crate) type Micros = u64;

/// Feedback packets that are read per second; clients send ten to twenty.
const MAX_FEEDBACK: u32 = 250;
/// Without any word from the subscriber this long after the first packet, nothing is known of the path.
const MUTE_AFTER: Micros = 3_000_000;
/// Without feedback for this long while packets leave, the path is taken to be congested.
const SILENCE: Micros = 1_000_000;
/// How often a silent path's rate is reduced, and to what.
const SILENCE_STEP: Micros = 500_000;
const SILENCE_FACTOR: f64 = 0.7;
/// After a reduction, loss asks for none for this long and a round trip.
const LOSS_REST: Micros = 300_000;
/// So long after a reduction, what arrives is what is sent since.
const SETTLED: Micros = 1_000_000;
/// An estimate that is this much below what arrives is wrong; one that is near it will grow by itself.
const FAR_MORE: f64 = 1.3;
/// Nothing is to be looked after when nothing has left for this long.
const IDLE: Micros = 2_000_000;
/// A REMB is good for this long.
const REMB_LIFETIME: Micros = 10_000_000;

/// Bounds of the estimate, in bits per second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// Before anything is known.
    pub initial: f64,
    /// However bad the path.
    pub least: f64,
    /// However good.
    pub most: f64,
}

/// Everything known of the path to one subscriber.
#[derive(Debug)]
pub(crate) struct Congestion {
    bounds: Bounds,
    history: History,
    references: References,
    groups: Groups,
    trend: Trend,
    arriving: Arriving,
    loss: Loss,
    queue: Queue,
    rate: Rate,
    probes: Probes,
    pacer: Pacer,
    /// Bits per second that would be sent if there were no limit.
    wanted: f64,
    round_trip: Micros,
    first_sent: Option<Micros>,
    last_sent: Micros,
    heard: Option<Micros>,
    /// Second, and feedback packets read in it.
    budget: (Micros, u32),
    silence_step: Micros,
    remb: Option<(f64, Micros)>,
    expects_feedback: bool,
    has_result: bool,
}

impl Congestion {
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            history: History::default(),
            references: References::default(),
            groups: Groups::default(),
            trend: Trend::default(),
            arriving: Arriving::default(),
            loss: Loss::default(),
            queue: Queue::default(),
            rate: Rate::new(bounds.initial, (bounds.least, bounds.most)),
            probes: Probes::default(),
            pacer: Pacer::new(bounds.initial),
            wanted: 0.0,
            round_trip: 100_000,
            first_sent: None,
            last_sent: 0,
            heard: None,
            budget: (0, 0),
            silence_step: 0,
            remb: None,
            expects_feedback: false,
            has_result: false,
        }
    }

    /// The subscriber has negotiated transport-wide feedback.
    pub fn expect_feedback(&mut self) {
        self.expects_feedback = true;
    }

    pub fn expects_feedback(&self) -> bool {
        self.expects_feedback
    }

    fn remb(&self, now: Micros) -> Option<f64> {
        self.remb.filter(|(_, at)| now.saturating_sub(*at) < REMB_LIFETIME).map(|(rate, _)| rate)
    }

    /// The transport-wide sequence number of the next packet that bears one.
    pub fn next_sequence(&self) -> u16 {
        self.history.next()
    }

    /// The packet that bears [`Self::next_sequence`] was sealed and waits to leave.
    pub fn stamped(&mut self, bytes: usize, now: Micros) {
        self.history.push(bytes, now);
    }

    /// The oldest waiting packet with a number leaves.
    pub fn left(&mut self, bytes: usize, now: Micros) {
        self.history.sent(now, self.probes.cluster());
        self.first_sent.get_or_insert(now);
        self.last_sent = now;
        if self.probes.is_sending() {
            self.probes.sent(bytes);
        } else {
            self.pacer.spend(bytes);
        }
    }

    /// Bytes without a number leave: sound, RTCP.
    pub fn passed(&mut self, bytes: usize) {
        self.pacer.spend(bytes);
    }

    /// Whether a packet may leave, of `waiting` bytes that want to.
    pub fn has_room(&mut self, waiting: usize, now: Micros) -> bool {
        if self.probes.is_sending() {
            // At the rate of the probe, or it would measure something else.
            return self.probes.due(now) > 0;
        }
        !self.is_pacing(now) || self.pacer.room(waiting, now) > 0.0
    }

    /// How long what has to wait waits until it is tried again.
    pub fn wait(&self) -> Micros {
        if self.probes.is_sending() { probes::STEP } else { self.pacer.wait() }
    }

    /// Bits per second that the path is taken to carry; `None` if nothing is known, because the
    /// subscriber says nothing.
    pub fn available(&self, now: Micros) -> Option<f64> {
        let remb = self.remb(now);
        let own = self.is_pacing(now).then(|| self.rate.current());
        match (own, remb) {
            (Some(own), Some(remb)) if self.heard.is_some() => Some(own.min(remb)),
            (_, Some(remb)) => Some(remb),
            (own, None) => own,
        }
    }

    /// What the subscriber receives, in bits per second.
    pub fn arriving(&self) -> f64 {
        self.arriving.rate().unwrap_or_default()
    }

    /// How long an answer takes at present, in the queue of the path, too.
    pub fn round_trip(&self) -> Micros {
        self.heard.map_or(0, |_| self.round_trip)
    }

    /// Nothing has left for a while.
    pub fn is_idle(&self, now: Micros) -> bool {
        now.saturating_sub(self.last_sent) > IDLE
    }

    /// A probe is being sent.
    pub fn is_probing(&self) -> bool {
        self.probes.is_sending()
    }

    /// Smoothed loss as the subscriber reports it.
    pub fn loss(&self) -> Option<f64> {
        self.heard.map(|_| self.loss.fraction())
    }

    /// The delay grows, or loss is high.
    pub fn is_congested(&self) -> bool {
        self.trend.usage() == Usage::Over || matches!(self.loss.verdict(), Verdict::Reduce(_))
    }

    /// What is sent does harm for a while already: packets stay lost, or a queue stands.
    pub fn is_harmful(&self, now: Micros) -> bool {
        self.queue.harms(now)
    }

    /// What would be sent if there were no limit, in bits per second: reason to probe, or none.
    pub fn want(&mut self, wanted: f64) {
        self.wanted = wanted;
    }

    /// Begins a probe if there is a reason to; returns whether it did.
    pub fn plan_probe(&mut self, now: Micros) -> bool {
        let stale = self.heard.is_some_and(|at| now.saturating_sub(at) > SILENCE);
        let situation = Situation {
            estimate: self.rate.current(),
            arriving: self.arriving(),
            wanted: self.wanted,
            most: self.bounds.most,
            // What was heard long ago, when more was being sent, says nothing any more.
            is_calm: stale
                || (self.trend.usage() == Usage::Normal && !matches!(self.loss.verdict(), Verdict::Reduce(_))),
            decreased: self.rate.decreased(),
        };
        self.first_sent.is_some() && self.is_pacing(now) && self.probes.plan(situation, now)
    }

    /// Bytes to be made up for the probe that is being sent.
    pub fn probe_due(&self, now: Micros) -> usize {
        self.probes.due(now)
    }

    /// What was due has left.
    pub fn probe_step(&mut self) {
        self.probes.step();
    }

    /// There is nothing to make a probe of.
    pub fn give_up_probe(&mut self, now: Micros) {
        self.probes.give_up(now);
    }

    /// The last feedback completed a probe: the next may follow.
    pub fn has_result(&self) -> bool {
        self.has_result
    }

    /// The subscriber's estimate (RTCP header included). Returns whether it was one.
    pub fn on_remb(&mut self, packet: &[u8], now: Micros) -> bool {
        let Some(rate) = parse_remb(packet) else { return false };
        self.remb = Some(((rate as f64).clamp(self.bounds.least, self.bounds.most), now));
        true
    }

    /// Transport-wide feedback (RTCP header included). Returns whether it was used.
    pub fn on_feedback(&mut self, packet: &[u8], now: Micros) -> bool {
        let second = now / 1_000_000;
        if self.budget.0 != second {
            self.budget = (second, 0);
        }
        self.budget.1 += 1;
        let Some(feedback) = Feedback::parse(packet).filter(|_| self.budget.1 <= MAX_FEEDBACK) else { return false };
        // What was never sent cannot be reported on: then the clock of this report means nothing either.
        let last = feedback.base().wrapping_add(feedback.count() - 1);
        if self.history.get(last).is_none() {
            return false;
        }
        let reference = self.references.unwrap(feedback.reference());
        let mut newest: Option<Micros> = None;
        feedback.walk(reference, |sequence, status| {
            if let Some(sent) = self.reported(sequence, status) {
                newest = newest.max(Some(sent));
            }
        });
        if let Some(sent) = newest {
            self.heard = Some(now);
            let sample = now.saturating_sub(sent).min(2_000_000);
            self.round_trip = (self.round_trip * 7 + sample) / 8;
            self.queue.answered(now.saturating_sub(sent), self.loss.verdict(), now);
        }
        self.has_result = false;
        self.conclude(now);
        true
    }

    /// Notes what is said about one packet; returns when it was sent, if it has just arrived.
    fn reported(&mut self, sequence: u16, status: Status) -> Option<Micros> {
        let entry = self.history.get(sequence)?;
        let before = entry.outcome;
        let (outcome, arrival) = match status {
            Status::Missing => (Outcome::Missing, None),
            Status::Arrived(at) => (Outcome::Arrived, Some(at)),
            Status::Untimed => (Outcome::Arrived, None),
        };
        match before {
            Outcome::Waiting | Outcome::Arrived => return None,
            Outcome::Missing if outcome == Outcome::Missing => return None,
            Outcome::Missing => {
                // It may be a repetition under the same number: its time says nothing.
                entry.outcome = outcome;
                self.loss.recovered();
                return None;
            }
            Outcome::Sent => entry.outcome = outcome,
        }
        let entry = *entry;
        self.loss.reported(outcome == Outcome::Missing);
        if entry.cluster != 0 {
            self.probes.reported(entry, arrival);
        }
        if let Some(arrival) = arrival {
            self.arriving.add(entry.bytes, entry.sent as i64, arrival);
            if let Some(spacing) = self.groups.add(entry.sent, arrival) {
                self.trend.add(spacing);
            }
        }
        (outcome == Outcome::Arrived).then_some(entry.sent)
    }

    /// What all that has been reported means for the rate.
    fn conclude(&mut self, now: Micros) {
        let reduce = self.loss.judge(now);
        let hold = self.loss.verdict() != Verdict::Good;
        self.rate.update(self.trend.usage(), self.arriving.rate(), self.round_trip, hold, now);
        if let Some(proven) = self.probes.result(now)
            && self.trend.usage() != Usage::Over
        {
            self.rate.proven(proven);
            self.has_result = true;
        }
        // Far more than was hoped for comes, and nothing waits or is lost: the path carries it.
        let is_calm = self.trend.usage() == Usage::Normal && !hold && !self.queue.stands();
        let is_settled = !self.rate.decreased_within(SETTLED + self.round_trip, now);
        let arriving = self.arriving.rate().unwrap_or_default();
        if is_calm && is_settled && arriving > FAR_MORE * self.rate.current() {
            self.rate.proven(arriving);
        }
        // What is lost now was sent before the last reduction: that has been paid for.
        let rests = self.rate.decreased_within(LOSS_REST + self.round_trip, now);
        if let Some(factor) = reduce.filter(|_| !rests) {
            self.rate.limit(factor * self.rate.current(), now);
        }
        let tight = hold || self.wanted > self.rate.current();
        self.pacer.configure(self.rate.current(), self.is_congested(), tight);
    }

    /// Time has passed, with or without feedback.
    pub fn tick(&mut self, now: Micros) {
        let Some(heard) = self.heard else { return };
        let is_sending = now.saturating_sub(self.last_sent) < SILENCE && self.last_sent > heard + SILENCE / 4;
        let is_silent = now.saturating_sub(heard) > SILENCE && is_sending;
        if is_silent && now.saturating_sub(self.silence_step) >= SILENCE_STEP {
            self.silence_step = now;
            self.rate.limit(SILENCE_FACTOR * self.rate.current(), now);
            self.pacer.configure(self.rate.current(), true, true);
        }
    }

    /// Whether an own estimate is kept: the subscriber answers, or has not had the time to.
    fn is_pacing(&self, now: Micros) -> bool {
        let may_answer = self.first_sent.is_none_or(|first| now.saturating_sub(first) < MUTE_AFTER);
        self.heard.is_some() || (self.expects_feedback && may_answer)
    }
}
