//! Redundant audio (RFC 2198): a packet's newest frame behind copies of earlier ones.

/// Copies in one packet at most. Chromium sends one and takes up to 32; what more than these there are would fill the
/// packet with sound that nobody waits for any more.
const MAX_COPIES: usize = 8;
/// Another block header follows this one.
const MORE: u8 = 0x80;
/// Bytes of a copy's header; the newest frame's has one.
const HEADER: usize = 4;

/// Where the blocks of a packet are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Red {
    /// Payload type of the newest frame.
    pub payload_type: u8,
    /// Whether the copies have that payload type, too.
    pub is_uniform: bool,
    /// Where the newest frame begins, which is the rest.
    pub primary: usize,
    copies: usize,
}

/// An earlier frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Copied<'a> {
    /// By how much its timestamp is less than the packet's.
    pub offset: u16,
    /// May be empty.
    pub frame: &'a [u8],
}

impl Red {
    /// Reads the headers of a payload without padding. `None` if they contradict its length, if there is no newest
    /// frame, or if there are more copies than anybody sends.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let mut copied = 0;
        for copies in 0..=MAX_COPIES {
            let header = payload.get(copies * HEADER..)?;
            let payload_type = header.first()? & !MORE;
            if header[0] & MORE == 0 {
                let primary = copies * HEADER + 1 + copied;
                let is_uniform = payload.iter().step_by(HEADER).take(copies).all(|pt| pt & !MORE == payload_type);
                return (primary < payload.len()).then_some(Self { payload_type, is_uniform, primary, copies });
            }
            // One bit that says so, 7 of payload type, 14 of timestamp offset, 10 of length.
            let &[_, _, high, low] = header.first_chunk()?;
            copied += usize::from(high & 3) << 8 | usize::from(low);
        }
        None
    }

    /// The copies in the same payload, oldest first.
    pub fn copies<'a>(&self, payload: &'a [u8]) -> impl ExactSizeIterator<Item = Copied<'a>> + use<'a> {
        let (headers, mut rest) = payload.split_at_checked(self.copies * HEADER + 1).unwrap_or_default();
        headers.chunks_exact(HEADER).map(move |header| {
            let length = usize::from(header[2] & 3) << 8 | usize::from(header[3]);
            let (frame, after) = rest.split_at_checked(length).unwrap_or_default();
            rest = after;
            Copied { offset: u16::from_be_bytes([header[1], header[2]]) >> 2, frame }
        })
    }

    /// Gives all blocks of the same payload this payload type, in place.
    pub fn rename(&self, payload: &mut [u8], payload_type: u8) {
        for first in payload.iter_mut().step_by(HEADER).take(self.copies + 1) {
            *first = (*first & MORE) | (payload_type & !MORE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 2198 §4: 84 bytes of DVI4 (payload type 5) behind 14 of LPC (7) that are 20 ms older, at 8 kHz.
    #[test]
    fn the_packet_of_the_rfc_is_read() {
        let (offset, length) = (160_u16, 14_u16);
        let [_, o0, o1, l] = ((u32::from(offset) << 10) | u32::from(length)).to_be_bytes();
        let mut packet = vec![0x80 | 7, o0, o1, l, 5];
        packet.extend_from_slice(&[0x77; 14]);
        packet.extend_from_slice(&[0x55; 84]);
        let red = Red::parse(&packet).unwrap();
        assert_eq!(red, Red { payload_type: 5, is_uniform: false, primary: 19, copies: 1 });
        assert_eq!(packet[red.primary..], [0x55; 84]);
        assert_eq!(red.copies(&packet).collect::<Vec<_>>(), [Copied { offset: 160, frame: &[0x77; 14] }]);
        assert_eq!(Red::parse(&packet[..20]).map(|red| red.primary), Some(19));
        for cut in 0..20 {
            assert_eq!(Red::parse(&packet[..cut]), None, "cut to {cut}");
        }
    }

    #[test]
    fn the_newest_frame_is_found_behind_its_copies() {
        let two = [0xef, 0x0f, 0x00, 0x02, 0xef, 0x07, 0x80, 0x01, 0x6f, 1, 1, 2, 9, 9, 9];
        for (payload, expected) in [
            (&[0x6f, 5, 6][..], Some((1, true, &[5, 6][..]))),
            (&two, Some((12, true, &[9, 9, 9]))),
            // A copy of nothing, and one of another codec.
            (&[0xef, 0x0f, 0x00, 0x00, 0x6f, 9], Some((5, true, &[9]))),
            (&[0xef, 0x00, 0x00, 0x01, 0x60, 1, 2], Some((6, false, &[2]))),
            // Nothing behind the copies, a copy longer than the packet, headers cut short.
            (&two[..12], None),
            (&[0xef, 0x00, 0x03, 0xff, 0x6f, 1, 2], None),
            (&[0xef, 0x00], None),
            (&[0x6f], None),
            (&[], None),
        ] {
            let found = Red::parse(payload).map(|red| (red.primary, red.is_uniform, &payload[red.primary..]));
            assert_eq!(found, expected, "{payload:02x?}");
        }
        let copies: Vec<_> = Red::parse(&two).unwrap().copies(&two).map(|copy| (copy.offset, copy.frame)).collect();
        assert_eq!(copies, [(960, &[1, 1][..]), (480, &[2])]);
        let mut renamed = two;
        Red::parse(&two).unwrap().rename(&mut renamed, 100);
        assert_eq!([renamed[0], renamed[4], renamed[8]], [0xe4, 0xe4, 0x64]);
        assert_eq!(renamed[9..], two[9..]);
    }

    #[test]
    fn copies_are_bounded() {
        let packet = |copies: usize| [[0x80 | 111, 0, 0, 0].repeat(copies), vec![111, 9]].concat();
        assert_eq!(Red::parse(&packet(MAX_COPIES)).map(|red| red.copies), Some(MAX_COPIES));
        assert_eq!(Red::parse(&packet(MAX_COPIES + 1)), None);
    }

    proptest! {
        #[test]
        fn arbitrary_payloads_never_panic(mut payload in prop::collection::vec(any::<u8>(), 0..60), same: bool) {
            if same {
                payload.iter_mut().step_by(4).for_each(|byte| *byte = 0x80 | 111);
                if let Some(last) = payload.get_mut(12) {
                    *last = 111;
                }
            }
            if let Some(red) = Red::parse(&payload) {
                prop_assert!(red.primary < payload.len());
                let copied: usize = red.copies(&payload).map(|copy| copy.frame.len()).sum();
                prop_assert_eq!(copied + red.copies * 4 + 1, red.primary);
                red.rename(&mut payload, 100);
                prop_assert_eq!(Red::parse(&payload), Some(Red { payload_type: 100, is_uniform: true, ..red }));
            }
        }
    }
}
