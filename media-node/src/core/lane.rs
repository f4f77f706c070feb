//! Where a packet for a subscriber is sealed into: the batch that leaves with the next flush, or the one
//! that leaves as the path permits.

use super::batch::Batch;
use super::congestion::{Congestion, Micros};
use super::pool::Pool;
use super::stats::Drop;

/// Bytes that may wait for the path at most. The pacer empties a queue within a quarter of a second, so
/// this is reached only where twenty megabits a second are sent to somebody who can take far less.
const MAX_WAITING: usize = 512 * 1024;

/// One packet's place; [`Lane::end`] says whether it was used.
pub(super) struct Lane<'a> {
    batch: &'a mut Batch,
    congestion: Option<&'a mut Congestion>,
}

impl<'a> Lane<'a> {
    /// Packets that bear a transport-wide number are paced. So they leave in the order of these numbers,
    /// which are sealed into them.
    ///
    /// # Errors
    /// [`Drop::PacerFull`].
    pub fn of(
        has_transport_cc: bool,
        batch: &'a mut Batch,
        paced: &'a mut Batch,
        congestion: &'a mut Option<Box<Congestion>>,
        pool: &mut Pool,
    ) -> Result<Self, Drop> {
        let lane = match congestion {
            Some(_) if has_transport_cc && paced.waiting() > MAX_WAITING => return Err(Drop::PacerFull),
            Some(congestion) if has_transport_cc => Self { batch: paced, congestion: Some(congestion) },
            _ => Self { batch, congestion: None },
        };
        pool.lend(lane.batch);
        Ok(lane)
    }

    /// What to stamp the packet with.
    pub fn transport_cc(&self) -> u16 {
        self.congestion.as_ref().map_or(0, |congestion| congestion.next_sequence())
    }

    /// What to append it to.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        self.batch.buffer()
    }

    /// The packet was appended, or could not be.
    ///
    /// # Errors
    /// The one given.
    pub fn end(self, sealed: Result<(), Drop>, now: Micros) -> Result<(), Drop> {
        match sealed {
            Ok(()) => {
                let start = self.batch.start();
                self.batch.commit();
                if let Some(congestion) = self.congestion {
                    congestion.stamped(self.batch.start() - start, now);
                }
            }
            Err(_) => self.batch.abandon(),
        }
        sealed
    }
}
