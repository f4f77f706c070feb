//! Buffers of batches. Only transports that have something to send hold any; all others of an event loop
//! share what these give back, so that in steady state none is allocated however many subscribers there are.

use super::batch::Batch;

/// After so many flushes, half of what none of them needed is given back: a second and a half at least.
const ROUNDS: u32 = 1024;

/// Room that a buffer keeps at least, in bytes, and at most.
const ROOM: (usize, usize) = (2048, 64 * 1024);
/// What a buffer keeps follows the largest batch of late, and falls by this part of it with each flush: a key frame
/// is large in every subscriber's batch, and is not the rule.
const FALL: usize = 32;

/// Buffers that wait for use. There are never more than were in use at one moment: at most two per transport.
#[derive(Debug)]
pub(crate) struct Pool {
    free: Vec<Batch>,
    /// Bytes that a buffer keeps room for.
    room: usize,
    /// Bytes of the largest batch since the last flush.
    largest: usize,
    /// Those that were never taken in this round of rounds.
    spare: usize,
    flushes: u32,
}

impl Default for Pool {
    fn default() -> Self {
        Self { free: Vec::new(), room: ROOM.0, largest: 0, spare: 0, flushes: 0 }
    }
}

impl Pool {
    /// A batch is about to be written to.
    pub fn lend(&mut self, batch: &mut Batch) {
        if batch.has_no_room()
            && let Some(free) = self.free.pop()
        {
            *batch = free;
            self.spare = self.spare.min(self.free.len());
        }
    }

    /// A batch has been sent.
    pub fn take_back(&mut self, batch: &mut Batch) {
        if !batch.has_no_room() {
            self.largest = self.largest.max(batch.len());
            self.free.push(std::mem::take(batch).recycle(self.room.max(self.largest.min(ROOM.1))));
        }
    }

    /// All transports have been flushed.
    pub fn flushed(&mut self) {
        self.room = self.largest.max(self.room - self.room / FALL).clamp(ROOM.0, ROOM.1);
        self.largest = 0;
        self.flushes += 1;
        if self.flushes == ROUNDS {
            // Those at the front have waited longest.
            self.free.drain(..self.spare.div_ceil(2));
            (self.flushes, self.spare) = (0, self.free.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many batches are written to and sent.
    fn flush(pool: &mut Pool, batches: usize) {
        let mut batches: Vec<Batch> = std::iter::repeat_with(Batch::default).take(batches).collect();
        for batch in &mut batches {
            pool.lend(batch);
            batch.push(&[7; 1200]);
        }
        batches.iter_mut().for_each(|batch| pool.take_back(batch));
        pool.flushed();
    }

    #[test]
    fn it_keeps_what_is_in_use_and_gives_the_rest_back_in_time() {
        let mut pool = Pool::default();
        for _ in 0..10 {
            flush(&mut pool, 500);
        }
        assert_eq!(pool.free.len(), 500);
        for _ in 0..20 * ROUNDS {
            flush(&mut pool, 7);
        }
        assert_eq!(pool.free.len(), 7);
    }

    #[test]
    fn a_key_frame_takes_memory_for_a_while_only() {
        let mut pool = Pool::default();
        let mut picture = |bytes: usize, flushes: usize| {
            for _ in 0..flushes {
                let mut batches: Vec<Batch> = std::iter::repeat_with(Batch::default).take(50).collect();
                for batch in &mut batches {
                    pool.lend(batch);
                    batch.push(&vec![7; bytes]);
                }
                batches.iter_mut().for_each(|batch| pool.take_back(batch));
                pool.flushed();
            }
            pool.free.iter().map(Batch::capacity).max().unwrap()
        };
        let usual = picture(6000, 10);
        assert!((6000..=12_000).contains(&usual), "{usual}");
        assert_eq!(picture(6000, 1000), usual, "nothing is given back that is needed again");
        assert!(picture(60_000, 1) >= 60_000);
        assert!(picture(6000, 100) <= 12_000);
    }

    #[test]
    fn what_was_never_written_to_is_not_kept() {
        let mut pool = Pool::default();
        pool.take_back(&mut Batch::default());
        assert_eq!(pool.free.len(), 0);
    }
}
