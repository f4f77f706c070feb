//! What must be known of payloads: where a decoder can start, and the picture numbers of VP8.

mod vp8;

pub(crate) use vp8::{Descriptor as Vp8Descriptor, renumber as renumber_vp8};

use super::command::Codec;

/// Whether a decoder that has seen nothing can start at this packet.
pub(crate) fn starts_key_frame(codec: Codec, payload: &[u8]) -> bool {
    match codec {
        Codec::Opus | Codec::Other => true,
        Codec::Vp8 => vp8::Descriptor::parse(payload).is_some_and(|d| d.key_frame),
        Codec::Vp9 => vp9_key_frame(payload),
        Codec::H264 => h264_key_frame(payload),
    }
}

/// Whether only some packets are key frames, so that a subscriber has to wait for one.
pub(crate) fn has_key_frames(codec: Codec) -> bool {
    !matches!(codec, Codec::Opus | Codec::Other)
}

/// RFC 9628 §4.2: beginning of a frame that is not inter-picture predicted, in the base spatial layer.
fn vp9_key_frame(payload: &[u8]) -> bool {
    let Some(&first) = payload.first() else { return false };
    let bit = |mask: u8| first & mask != 0;
    let (has_id, inter, layers, begins) = (bit(0x80), bit(0x40), bit(0x20), bit(0x08));
    if inter || !begins {
        return false;
    }
    if !layers {
        return true;
    }
    let id_len = match (has_id, payload.get(1)) {
        (false, _) => 0,
        (true, Some(id)) if id & 0x80 != 0 => 2,
        (true, _) => 1,
    };
    // T(3) U(1) S(3) D(1)
    payload.get(1 + id_len).is_some_and(|layer| (layer >> 1) & 0x07 == 0)
}

/// RFC 6184: a sequence parameter set or the start of an IDR slice, alone, aggregated or fragmented.
fn h264_key_frame(payload: &[u8]) -> bool {
    const IDR: u8 = 5;
    const SPS: u8 = 7;
    const STAP_A: u8 = 24;
    const FU_A: u8 = 28;
    let starts = |nal: u8| matches!(nal & 0x1f, IDR | SPS);
    match payload {
        [first, ..] if starts(*first) => true,
        [first, rest @ ..] if first & 0x1f == STAP_A => {
            let mut rest = rest;
            while let [l0, l1, unit @ ..] = rest {
                let len = usize::from(u16::from_be_bytes([*l0, *l1]));
                match unit.first() {
                    Some(nal) if starts(*nal) => return true,
                    _ => {}
                }
                rest = unit.get(len.max(1)..).unwrap_or_default();
            }
            false
        }
        [first, fu, ..] if first & 0x1f == FU_A => fu & 0x80 != 0 && starts(*fu),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn key_frames_are_recognised() {
        for (codec, payload, expected) in [
            (Codec::Opus, &[1u8][..], true),
            (Codec::Vp8, &[0x10, 0x00], true),
            (Codec::Vp8, &[0x10, 0x01], false),
            (Codec::Vp8, &[0x00, 0x00], false),
            (Codec::Vp8, &[0x90, 0x80, 0x81, 0x23, 0x00], true),
            (Codec::H264, &[0x67, 0x42], true),
            (Codec::H264, &[0x65, 0x88], true),
            (Codec::H264, &[0x61, 0x88], false),
            (Codec::H264, &[0x78, 0, 2, 0x67, 0x42, 0, 1, 0x68], true),
            (Codec::H264, &[0x78, 0, 2, 0x61, 0x42, 0, 1, 0x65], true),
            (Codec::H264, &[0x78, 0, 2, 0x61, 0x42, 0, 1, 0x61], false),
            (Codec::H264, &[0x7c, 0x85, 0], true),
            (Codec::H264, &[0x7c, 0x05, 0], false),
            (Codec::Vp9, &[0x08, 0], true),
            (Codec::Vp9, &[0x48, 0], false),
            (Codec::Vp9, &[0xa8, 0x81, 0x23, 0x00], true),
            (Codec::Vp9, &[0xa8, 0x81, 0x23, 0x02], false),
            (Codec::Vp9, &[], false),
        ] {
            assert_eq!(starts_key_frame(codec, payload), expected, "{codec:?} {payload:02x?}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_payloads_never_panic(mut payload in prop::collection::vec(any::<u8>(), 0..24)) {
            for codec in [Codec::Opus, Codec::Vp8, Codec::Vp9, Codec::H264, Codec::Other] {
                starts_key_frame(codec, &payload);
            }
            renumber_vp8(&mut payload, 7, 9);
        }
    }
}
