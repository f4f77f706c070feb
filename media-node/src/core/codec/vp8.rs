//! VP8 payload descriptor (RFC 7741 §4.2).

use super::{Numbers, Picture};

/// `None` if the payload ends within the descriptor.
pub(super) fn picture(payload: &[u8], marker: bool) -> Option<Picture> {
    let first = *payload.first()?;
    let mut numbers = Numbers::default();
    let (mut temporal, mut sync) = (0, false);
    let mut at = 1;
    if first & 0x80 != 0 {
        let extended = *payload.get(1)?;
        at = 2;
        if extended & 0x80 != 0 {
            at = numbers.read_picture_id(payload, at)?;
        }
        if extended & 0x40 != 0 {
            at = numbers.read_tl0(payload, at)?;
        }
        if extended & 0x30 != 0 {
            let layer = *payload.get(at)?;
            if extended & 0x20 != 0 {
                (temporal, sync) = (layer >> 6, layer & 0x20 != 0);
            }
            if extended & 0x10 != 0 {
                numbers.read_key_idx(layer, at);
            }
            at += 1;
        }
    }
    // Start of partition zero, and the P bit of the VP8 frame header says "key frame".
    let begins = first & 0x10 != 0 && first & 0x07 == 0;
    let starts = payload.get(at)? & 0x01 == 0 && begins;
    Some(Picture { temporal, starts, begins, ends: marker, enters_temporal: sync, numbers, ..Picture::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::sequence::Shift;

    #[test]
    fn picture_numbers_are_shifted_in_place_and_wrap() {
        let mut payload = [0x90, 0xe0, 0xff, 0xfe, 0xff, 0x60, 0x00, 1, 2];
        let before = picture(&payload, true).unwrap();
        assert_eq!((before.temporal, before.enters_temporal, before.begins, before.ends), (1, true, true, true));
        before.numbers.shift(&mut payload, &Shift { picture_id: 3, tl0_pic_idx: 2, ..Shift::default() });
        let numbers = picture(&payload, true).unwrap().numbers;
        assert_eq!((numbers.picture_id, numbers.tl0_pic_idx), (Some(1), Some(1)));
        assert_eq!(payload[5..], [0x60, 0x00, 1, 2]);
        let mut short = [0x90, 0x80, 0x7f, 0x00];
        picture(&short, false).unwrap().numbers.shift(&mut short, &Shift { picture_id: 2, ..Shift::default() });
        assert_eq!(picture(&short, false).unwrap().numbers.picture_id, Some(1));
    }

    #[test]
    fn the_key_frame_index_is_shifted_beside_the_layer() {
        // X, S; I L T K; TID 2, Y, KEYIDX 30.
        let mut payload = [0x90, 0xf0, 0x80, 0x01, 0x07, 0xbe, 0x01];
        let before = picture(&payload, false).unwrap();
        assert_eq!((before.temporal, before.enters_temporal, before.numbers.key_idx), (2, true, Some(30)));
        before.numbers.shift(&mut payload, &Shift { key_idx: 3, ..Shift::default() });
        assert_eq!(payload, [0x90, 0xf0, 0x80, 0x01, 0x07, 0xa1, 0x01], "it wraps within its five bits");
        // K alone: the other bits mean nothing and stay as they are.
        let mut alone = [0x90, 0x10, 0xff, 0x01];
        let before = picture(&alone, false).unwrap();
        assert_eq!((before.temporal, before.numbers.key_idx), (0, Some(31)));
        before.numbers.shift(&mut alone, &Shift { key_idx: 1, ..Shift::default() });
        assert_eq!(alone, [0x90, 0x10, 0xe0, 0x01]);
        // T alone: these are reserved bits.
        let mut none = [0x90, 0x20, 0x41, 0x01];
        let before = picture(&none, false).unwrap();
        assert_eq!((before.temporal, before.numbers.key_idx), (1, None));
        before.numbers.shift(&mut none, &Shift { key_idx: 1, ..Shift::default() });
        assert_eq!(none, [0x90, 0x20, 0x41, 0x01]);
    }

    #[test]
    fn a_descriptor_that_is_cut_short_is_none() {
        for whole in [[0x90, 0xe0, 0x80, 0x05, 0x07, 0x80, 0x01], [0x90, 0xf0, 0x80, 0x05, 0x07, 0x81, 0x01]] {
            assert_eq!(picture(&whole, false).unwrap().temporal, 2);
            for cut in 0..whole.len() {
                assert_eq!(picture(&whole[..cut], false), None, "{cut}");
            }
        }
    }
}
