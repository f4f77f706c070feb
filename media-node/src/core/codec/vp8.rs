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
            if extended & 0x20 != 0 {
                let layer = *payload.get(at)?;
                (temporal, sync) = (layer >> 6, layer & 0x20 != 0);
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
    fn a_descriptor_that_is_cut_short_is_none() {
        let whole = [0x90, 0xe0, 0x80, 0x05, 0x07, 0x80, 0x01];
        assert_eq!(picture(&whole, false).unwrap().temporal, 2);
        for cut in 0..whole.len() {
            assert_eq!(picture(&whole[..cut], false), None, "{cut}");
        }
    }
}
