//! How large the pictures of a camera are, and how they are cut into packets: deterministic by seed.

/// Payload bytes of one packet at most, as libwebrtc has it with header extensions and room for the tag.
pub const MAX_PAYLOAD: usize = 1150;

/// What a video track sends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Video {
    /// Pictures whose sizes vary as an encoder's do around a bit rate, cut into nearly equal packets;
    /// a key frame, on request and every ten seconds, is ten times as large.
    Camera {
        /// Bits a second.
        bitrate: f64,
        /// Pictures a second.
        rate: f64,
    },
    /// So many packets of one size per picture: what is easiest for a forwarder.
    Equal {
        /// Packets in a picture.
        packets: usize,
        /// Bytes of each on the wire, after SRTP at the publisher.
        bytes: usize,
        /// Pictures a second.
        rate: f64,
    },
}

/// SplitMix64: the same pictures in each run.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `0..1`.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// About normal, mean 0, deviation 1: the sum of twelve uniform ones.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }
}

impl Video {
    /// Pictures a second.
    pub fn rate(self) -> f64 {
        match self {
            Self::Camera { rate, .. } | Self::Equal { rate, .. } => rate,
        }
    }

    /// Payload sizes of the next picture's packets; `overhead` is what the wire has beside the payload.
    pub fn picture(self, key: bool, overhead: usize, random: &mut Random) -> Vec<usize> {
        match self {
            Self::Equal { packets, bytes, .. } => vec![bytes.saturating_sub(overhead); packets],
            Self::Camera { bitrate, rate } => {
                let mean = bitrate / 8.0 / rate;
                // Log-normal with a deviation of about a third, as encoders' inter frames have at a steady rate.
                let size = mean * (0.3 * random.normal() - 0.045).exp() * if key { 10.0 } else { 1.0 };
                split((size as usize).max(60))
            }
        }
    }
}

/// As libwebrtc's packetizers do: as few packets as possible, of nearly equal size, the larger ones last.
fn split(bytes: usize) -> Vec<usize> {
    let packets = bytes.div_ceil(MAX_PAYLOAD);
    let larger = bytes % packets;
    (0..packets).map(|i| bytes / packets + usize::from(i >= packets - larger)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_cut_into_nearly_equal_packets_the_larger_last() {
        assert_eq!(split(1150), [1150]);
        assert_eq!(split(1151), [575, 576]);
        assert_eq!(split(3452), [863, 863, 863, 863]);
        assert_eq!(split(3455), [863, 864, 864, 864]);
    }

    #[test]
    fn a_camera_keeps_its_bit_rate_and_repeats_with_its_seed() {
        let camera = Video::Camera { bitrate: 1_500_000.0, rate: 30.0 };
        let run = |seed| {
            let mut random = Random(seed);
            (0..3000).flat_map(|_| camera.picture(false, 0, &mut random)).collect::<Vec<_>>()
        };
        let bits = run(7).iter().sum::<usize>() as f64 * 8.0 / 100.0;
        assert!((1_400_000.0..1_600_000.0).contains(&bits), "{bits}");
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
    }
}
