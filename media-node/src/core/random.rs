//! Numbers that must differ but need not be secret (initial sequence numbers, RTCP SSRCs, hash seeds),
//! all from the one seed the core was given.

use std::hash::{BuildHasher, DefaultHasher, Hasher};

/// SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn u32(&mut self) -> u32 {
        (self.u64() >> 32) as u32
    }
}

/// Hashing that strangers cannot aim collisions at, and that repeats with the seed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SeededHash(pub u64);

impl BuildHasher for SeededHash {
    type Hasher = DefaultHasher;

    fn build_hasher(&self) -> DefaultHasher {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.0);
        hasher
    }
}

/// A map keyed by what comes from the network.
pub(crate) type Map<K, V> = std::collections::HashMap<K, V, SeededHash>;
