//! VP8 payload descriptor (RFC 7741 §4.2).

/// The fields that a forwarder needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Descriptor {
    /// First packet of a key frame.
    pub key_frame: bool,
    /// 7 or 15 bits.
    pub picture_id: Option<u16>,
    /// Where the picture id is, and whether it has 15 bits.
    picture_id_at: Option<(usize, bool)>,
    /// Temporal layer zero picture index.
    pub tl0_pic_idx: Option<u8>,
    tl0_at: Option<usize>,
}

impl Descriptor {
    /// `None` if the payload ends within the descriptor.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let first = *payload.first()?;
        let mut at = 1;
        let mut this =
            Self { key_frame: false, picture_id: None, picture_id_at: None, tl0_pic_idx: None, tl0_at: None };
        if first & 0x80 != 0 {
            let extended = *payload.get(1)?;
            at = 2;
            if extended & 0x80 != 0 {
                let high = *payload.get(at)?;
                let long = high & 0x80 != 0;
                this.picture_id_at = Some((at, long));
                this.picture_id =
                    Some(if long { u16::from_be_bytes([high & 0x7f, *payload.get(at + 1)?]) } else { u16::from(high) });
                at += 1 + usize::from(long);
            }
            if extended & 0x40 != 0 {
                this.tl0_at = Some(at);
                this.tl0_pic_idx = Some(*payload.get(at)?);
                at += 1;
            }
            if extended & 0x30 != 0 {
                at += 1;
            }
        }
        // Start of partition zero, and the P bit of the VP8 frame header says "key frame".
        this.key_frame = first & 0x10 != 0 && first & 0x07 == 0 && payload.get(at)? & 0x01 == 0;
        Some(this)
    }
}

/// Adds to picture id and TL0PICIDX, in place.
pub(crate) fn renumber(payload: &mut [u8], picture_id: u16, tl0_pic_idx: u8) {
    let Some(descriptor) = Descriptor::parse(payload) else { return };
    if let (Some((at, long)), Some(id)) = (descriptor.picture_id_at, descriptor.picture_id) {
        let id = id.wrapping_add(picture_id);
        if long {
            payload[at..at + 2].copy_from_slice(&(0x8000 | id).to_be_bytes());
        } else {
            payload[at] = id as u8 & 0x7f;
        }
    }
    if let Some(at) = descriptor.tl0_at {
        payload[at] = payload[at].wrapping_add(tl0_pic_idx);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn picture_numbers_are_shifted_in_place_and_wrap() {
        let mut payload = [0x90, 0xe0, 0xff, 0xfe, 0xff, 0x20, 0x00, 1, 2];
        renumber(&mut payload, 3, 2);
        let descriptor = Descriptor::parse(&payload).unwrap();
        assert_eq!(descriptor.picture_id, Some(1));
        assert_eq!(descriptor.tl0_pic_idx, Some(1));
        assert_eq!(payload[5..], [0x20, 0x00, 1, 2]);
        let mut short = [0x90, 0x80, 0x7f, 0x00];
        renumber(&mut short, 2, 0);
        assert_eq!(Descriptor::parse(&short).unwrap().picture_id, Some(1));
    }
}
