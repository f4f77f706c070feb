//! What is counted of one transport and of one stream, for those who ask ([`query`](super::query)).

use std::time::Duration;

use super::command::MediaKind;
use super::meter::Meter;
use super::score::{Interval, Score};

/// Datagrams and RTP packets of a transport. RTP counts without its protection, as mediasoup does.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    /// All datagrams from the client.
    pub received: Meter,
    /// All datagrams to the client.
    pub sent: Meter,
    pub rtp_received: Meter,
    pub rtp_sent: Meter,
    pub rtx_received: Meter,
    /// Packets sent again, under numbers of their own or not.
    pub rtx_sent: Meter,
    /// Padding sent to find out what the path carries.
    pub probation_sent: Meter,
}

/// One stream of a publisher.
#[derive(Clone, Debug)]
pub(crate) struct Inflow {
    /// Packets that were sent again, of use or not.
    pub resent: u64,
    /// Missing packets that came after all.
    pub repaired: u64,
    /// Packets that came by RTX and were missing.
    pub by_rtx: u64,
    /// Packets that came and were of no use.
    pub discarded: u64,
    /// The same of RTX packets, but for those of padding alone.
    pub rtx_discarded: u64,
    /// NACKs sent, and sequence numbers in them.
    pub nacks: u64,
    pub nacked: u64,
    /// PLIs sent.
    pub plis: u64,
    /// Of the last interval, in 256ths.
    pub fraction_lost: u8,
    pub score: Score,
    /// A stream without packets for so long is not being sent.
    pub inactive_after: Duration,
    /// Expected, received but by RTX, repaired and resent up to the last report.
    prior: [u64; 4],
}

impl Inflow {
    pub fn new(kind: MediaKind) -> Self {
        Self {
            resent: 0,
            repaired: 0,
            by_rtx: 0,
            discarded: 0,
            rtx_discarded: 0,
            nacks: 0,
            nacked: 0,
            plis: 0,
            fraction_lost: 0,
            score: Score::default(),
            inactive_after: match kind {
                // Opus with DTX sends a packet in 400 ms; browsers leave out even these.
                MediaKind::Audio => Duration::from_secs(5),
                MediaKind::Video => Duration::from_millis(1500),
            },
            prior: [0; 4],
        }
    }

    /// Packets are counted from zero again.
    pub fn count_anew(&mut self) {
        self.by_rtx = 0;
        self.prior = [0, 0, self.repaired, self.resent];
    }

    /// A report is due: of `expected` packets since the beginning `received` came, repaired ones included. Returns what
    /// became of those since the last one.
    pub fn close(&mut self, expected: u64, received: u64) -> Interval {
        let now = [expected, received - self.by_rtx.min(received), self.repaired, self.resent];
        let [expected, packets, repaired, resent] = std::array::from_fn(|i| now[i].saturating_sub(self.prior[i]));
        self.prior = now;
        let lost = expected.saturating_sub(packets);
        self.fraction_lost = (lost << 8).checked_div(expected).unwrap_or(0).min(255) as u8;
        let interval = Interval { packets, lost, repaired, resent };
        self.score.add(&interval);
        interval
    }
}

/// One stream to a subscriber.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outflow {
    /// Packets sent for the first time.
    pub meter: Meter,
    /// Packets sent again.
    pub resent: u64,
    /// Packets that were sent again for the first time.
    pub repaired: u64,
    /// Packets that came too late, or when too many were waiting, and were not sent.
    pub discarded: u64,
    /// NACKs received, and sequence numbers in them.
    pub nacks: u64,
    pub nacked: u64,
    pub plis: u64,
    pub firs: u64,
    pub score: Score,
    /// Sent, lost, repaired and resent up to the last report.
    prior: [u64; 4],
}

impl Outflow {
    /// The subscriber reports `lost` packets since the beginning. Returns how many of them are new.
    pub fn close(&mut self, lost: u32) -> u64 {
        let now = [self.meter.packets(), lost.into(), self.repaired, self.resent];
        let [packets, lost, repaired, resent] = std::array::from_fn(|i| now[i].saturating_sub(self.prior[i]));
        self.prior = now;
        self.score.add(&Interval { packets, lost: lost.min(packets), repaired, resent });
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rtx_repaired_was_lost_all_the_same() {
        let mut inbound = Inflow::new(MediaKind::Video);
        (inbound.resent, inbound.repaired, inbound.by_rtx) = (10, 10, 10);
        let interval = inbound.close(100, 100);
        assert_eq!(interval, Interval { packets: 90, lost: 10, repaired: 10, resent: 10 });
        assert_eq!((inbound.fraction_lost, inbound.score.value()), (25, 9));
        // Only what is new counts for the next one.
        assert_eq!(inbound.close(200, 200), Interval { packets: 100, ..Interval::default() });
        assert_eq!(inbound.fraction_lost, 0);
        assert_eq!(inbound.close(200, 200), Interval::default(), "silence is no loss");
    }

    #[test]
    fn reports_of_a_subscriber_count_once_and_cannot_claim_more_than_was_sent() {
        let mut outbound = Outflow::default();
        outbound.meter.add_many(100, 1000, 0);
        assert_eq!(outbound.close(5), 5);
        assert_eq!(outbound.close(5), 0);
        assert_eq!(outbound.close(3), 0, "duplicates make it fall");
        outbound.meter.add_many(10, 1000, 0);
        outbound.close(u32::MAX);
        assert!(outbound.score.value() < 10);
    }
}
