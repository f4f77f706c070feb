//! A network that loses, delays, reorders and repeats, as its seed says.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::ops::Range;
use std::time::{Duration, Instant};

use super::link::Link;
use crate::core::random::Random;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    ToServer,
    ToClient,
}

/// A datagram on its way; `client` is the client's address in both directions.
#[derive(Clone, Debug)]
pub(crate) struct Datagram {
    pub direction: Direction,
    pub client: SocketAddr,
    pub bytes: Vec<u8>,
}

/// Decides on single datagrams: `false` loses it.
pub(crate) type Filter = Box<dyn FnMut(&Datagram) -> bool>;

pub(crate) struct Network {
    random: Random,
    pub loss: f64,
    pub duplicate: f64,
    pub delay: Duration,
    /// Up to this much is added at random: more than the spacing of packets reorders them.
    pub jitter: Duration,
    pub filter: Option<Filter>,
    /// Bottlenecks, by direction and client.
    pub links: Vec<(Direction, SocketAddr, Link)>,
    /// A client that stops to look at its socket now and then: who, and its next such time.
    pub dozes: Option<(SocketAddr, Range<Instant>)>,
    in_flight: BTreeMap<(Instant, u64), Datagram>,
    sent: u64,
    pub lost: u64,
    /// The last datagrams delivered, for replaying and forging.
    pub seen: VecDeque<Datagram>,
}

impl Network {
    pub fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            loss: 0.0,
            duplicate: 0.0,
            delay: Duration::from_millis(10),
            jitter: Duration::ZERO,
            filter: None,
            links: Vec::new(),
            dozes: None,
            in_flight: BTreeMap::new(),
            sent: 0,
            lost: 0,
            seen: VecDeque::new(),
        }
    }

    fn chance(&mut self, probability: f64) -> bool {
        (self.random.u32() as f64) < probability * f64::from(u32::MAX)
    }

    pub fn send(&mut self, datagram: Datagram, now: Instant) {
        if let Some(filter) = &mut self.filter
            && !filter(&datagram)
        {
            self.lost += 1;
            return;
        }
        if self.chance(self.loss) {
            self.lost += 1;
            return;
        }
        let link = self.links.iter_mut().find(|(d, client, _)| (*d, *client) == (datagram.direction, datagram.client));
        let leaves = match link.map(|(_, _, link)| link.enter(datagram.bytes.len(), now)) {
            None => now,
            Some(Some(leaves)) => leaves,
            Some(None) => {
                self.lost += 1;
                return;
            }
        };
        let copies = if self.chance(self.duplicate) { 2 } else { 1 };
        for _ in 0..copies {
            let jitter = self.jitter.as_micros() as u64;
            let extra = if jitter == 0 { 0 } else { self.random.u64() % jitter };
            let at = self.awake(&datagram, leaves + self.delay + Duration::from_micros(extra));
            self.sent += 1;
            self.in_flight.insert((at, self.sent), datagram.clone());
        }
    }

    /// When whoever it is for looks at a datagram that has come.
    fn awake(&mut self, datagram: &Datagram, at: Instant) -> Instant {
        let Some((client, mut doze)) = self.dozes.clone() else { return at };
        if (datagram.direction, datagram.client) != (Direction::ToClient, client) {
            return at;
        }
        while doze.end < at {
            let start = doze.end + Duration::from_millis(20 + self.random.u64() % 400);
            doze = start..start + Duration::from_millis(5 + self.random.u64() % 120);
        }
        self.dozes = Some((client, doze.clone()));
        if doze.contains(&at) { doze.end } else { at }
    }

    /// The bottleneck from the server to a client; there must be one.
    pub fn downlink(&mut self, client: SocketAddr) -> &mut Link {
        let of = |(d, c, _): &&mut (Direction, SocketAddr, Link)| (*d, *c) == (Direction::ToClient, client);
        &mut self.links.iter_mut().find(of).expect("a bottleneck").2
    }

    pub fn next(&self) -> Option<Instant> {
        self.in_flight.keys().next().map(|(at, _)| *at)
    }

    pub fn deliver(&mut self, now: Instant) -> Option<Datagram> {
        let (&key, _) = self.in_flight.first_key_value()?;
        if key.0 > now {
            return None;
        }
        let datagram = self.in_flight.remove(&key)?;
        if self.seen.len() == 64 {
            self.seen.pop_front();
        }
        self.seen.push_back(datagram.clone());
        Some(datagram)
    }
}
