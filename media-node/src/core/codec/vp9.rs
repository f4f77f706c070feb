//! VP9 payload descriptor (RFC 9628 §4.2).

use super::{Numbers, Picture};

/// `None` if the payload ends within what is read of the descriptor.
pub(super) fn picture(payload: &[u8]) -> Option<Picture> {
    let first = *payload.first()?;
    let bit = |mask: u8| first & mask != 0;
    let (has_id, predicted, has_layers, flexible) = (bit(0x80), bit(0x40), bit(0x20), bit(0x10));
    let (begins, ends) = (bit(0x08), bit(0x04));
    let mut numbers = Numbers::default();
    let mut at = 1;
    if has_id {
        at = numbers.read_picture_id(payload, at)?;
    }
    let (mut temporal, mut spatial, mut up, mut depends) = (0, 0, false, false);
    if has_layers {
        let layers = *payload.get(at)?;
        (temporal, up, spatial, depends) = (layers >> 5, layers & 0x10 != 0, (layers >> 1) & 0x07, layers & 1 != 0);
        at += 1;
        if !flexible {
            numbers.read_tl0(payload, at)?;
        }
    }
    Some(Picture {
        spatial,
        temporal,
        // In the lowest layer, or nothing would be below it.
        starts: begins && !predicted && spatial == 0,
        begins,
        ends,
        enters_temporal: false,
        opens_temporal: up,
        enters_spatial: !predicted && depends,
        numbers,
        dependency: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::sequence::Shift;

    #[test]
    fn layers_and_switching_points_are_read() {
        // I L B E, 15 bit id 0x0123, TID 2, U, SID 1, D, TL0PICIDX 9.
        let payload = [0xac, 0x81, 0x23, 0x53, 0x09, 0xff];
        let found = picture(&payload).unwrap();
        assert_eq!((found.spatial, found.temporal), (1, 2));
        assert!(found.begins && found.ends && found.opens_temporal && found.enters_spatial && !found.starts);
        assert_eq!((found.numbers.picture_id, found.numbers.tl0_pic_idx), (Some(0x123), Some(9)));
        for cut in 0..5 {
            assert_eq!(picture(&payload[..cut]), None, "{cut}");
        }
        // Flexible mode has no TL0PICIDX.
        let flexible = picture(&[0xbc, 0x05, 0x00]).unwrap();
        assert_eq!((flexible.numbers.picture_id, flexible.numbers.tl0_pic_idx), (Some(5), None));
        assert!(flexible.starts);
        // Predicted from an earlier picture.
        assert!(!picture(&[0xec, 0x05, 0x03, 0x00]).unwrap().enters_spatial);
    }

    #[test]
    fn numbers_are_shifted_in_place() {
        let mut payload = [0xac, 0xff, 0xff, 0x53, 0xff, 0xff];
        let numbers = picture(&payload).unwrap().numbers;
        numbers.shift(&mut payload, &Shift { picture_id: 2, tl0_pic_idx: 3, ..Shift::default() });
        assert_eq!(payload, [0xac, 0x80, 0x01, 0x53, 0x02, 0xff]);
    }
}
