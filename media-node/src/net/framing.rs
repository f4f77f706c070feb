//! Datagrams on a connection (RFC 4571): each after its length in two bytes.

/// The longest datagram that a client may send; the core looks at no longer one.
pub(crate) const MAX_FRAME: usize = 2048;

const LENGTH: usize = 2;

/// The frame is longer than any datagram, or has nothing in it: what follows makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {0} bytes")]
pub(crate) struct BadFrame(usize);

/// Puts frames together from what a connection brings. Holds no more than one frame that is not whole.
#[derive(Debug, Default)]
pub(crate) struct Deframer {
    partial: Vec<u8>,
}

impl Deframer {
    /// Takes what was read and gives each frame to `each`, without its length.
    ///
    /// # Errors
    ///
    /// [`BadFrame`], after which the connection is of no use.
    pub fn push(&mut self, mut bytes: &[u8], mut each: impl FnMut(&mut [u8])) -> Result<(), BadFrame> {
        while !bytes.is_empty() {
            let wanted = match self.partial.first_chunk() {
                None => LENGTH,
                Some(length) => LENGTH + frame_length(*length)?,
            };
            let (taken, rest) = bytes.split_at(bytes.len().min(wanted - self.partial.len()));
            self.partial.extend_from_slice(taken);
            bytes = rest;
            if let Some(length) = self.partial.first_chunk()
                && self.partial.len() == LENGTH + frame_length(*length)?
            {
                each(&mut self.partial[LENGTH..]);
                self.partial.clear();
            }
        }
        Ok(())
    }
}

fn frame_length(length: [u8; LENGTH]) -> Result<usize, BadFrame> {
    match usize::from(u16::from_be_bytes(length)) {
        length @ 1..=MAX_FRAME => Ok(length),
        length => Err(BadFrame(length)),
    }
}

/// The datagrams of a transmit, each in its frame.
pub(crate) fn frame(payload: &[u8], segment: usize) -> Vec<u8> {
    let datagrams = payload.chunks(segment.max(1));
    let mut framed = Vec::with_capacity(payload.len() + LENGTH * datagrams.len());
    for datagram in datagrams {
        // No UDP datagram, and so no transmit of the core, is longer.
        framed.extend_from_slice(&u16::try_from(datagram.len()).unwrap_or(u16::MAX).to_be_bytes());
        framed.extend_from_slice(datagram);
    }
    framed
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frames(deframer: &mut Deframer, bytes: &[u8]) -> Result<Vec<Vec<u8>>, BadFrame> {
        let mut frames = Vec::new();
        deframer.push(bytes, |frame| frames.push(frame.to_vec()))?;
        Ok(frames)
    }

    #[test]
    fn frames_come_out_whole_wherever_the_stream_is_split() {
        let bytes = [frame(b"onetwoth", 3), frame(&[7; MAX_FRAME], MAX_FRAME), frame(b"x", 9)].concat();
        let expected: Vec<Vec<u8>> = vec![b"one".into(), b"two".into(), b"th".into(), vec![7; MAX_FRAME], b"x".into()];
        for split in 0..=bytes.len() {
            let mut deframer = Deframer::default();
            let (first, second) = bytes.split_at(split);
            let mut all = frames(&mut deframer, first).unwrap();
            all.extend(frames(&mut deframer, second).unwrap());
            assert_eq!(all, expected, "split at {split}");
        }
        let mut deframer = Deframer::default();
        let single: Vec<_> = bytes.iter().flat_map(|byte| frames(&mut deframer, &[*byte]).unwrap()).collect();
        assert_eq!(single, expected, "byte by byte");
    }

    #[test]
    fn a_frame_that_is_none_is_noticed_at_its_length() {
        for length in [0u16, 2049, 65_535] {
            let mut deframer = Deframer::default();
            assert_eq!(frames(&mut deframer, &length.to_be_bytes()), Err(BadFrame(length.into())));
            assert!(deframer.partial.capacity() < 64);
        }
    }

    proptest! {
        #[test]
        fn what_is_kept_is_less_than_a_frame(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..3000), 0..20)) {
            let mut deframer = Deframer::default();
            for piece in pieces {
                if frames(&mut deframer, &piece).is_err() {
                    break;
                }
                prop_assert!(deframer.partial.len() < LENGTH + MAX_FRAME);
            }
        }
    }
}
