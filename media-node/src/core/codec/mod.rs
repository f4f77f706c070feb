//! What must be known of payloads: where a decoder can start, which layer a packet belongs to, where
//! layers may be switched, and the numbers of pictures that are rewritten.

mod av1;
mod dependency;
mod h264;
mod red;
mod vp8;
mod vp9;

pub(crate) use red::{Copied, Red};

pub(crate) use dependency::{Dependency, Structure, renumber as renumber_frame};

use super::command::Codec;
use super::sequence::Shift;

/// A packet as the packet path sees it, whatever the codec.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Picture {
    /// Spatial layer within the stream.
    pub spatial: u8,
    /// Temporal layer.
    pub temporal: u8,
    /// A decoder that has seen nothing can start here: first packet of a key frame, lowest spatial layer.
    pub starts: bool,
    /// First packet of the frame of its spatial layer.
    pub begins: bool,
    /// Last packet of the frame of its spatial layer.
    pub ends: bool,
    /// The frame needs nothing of its own temporal layer, only the lowest (VP8's layer sync).
    pub enters_temporal: bool,
    /// Later frames of higher temporal layers need nothing of those from before this one (VP9's switching
    /// up point).
    pub opens_temporal: bool,
    /// The frame needs other layers of its own picture, but no earlier picture.
    pub enters_spatial: bool,
    /// Where the numbers are that are rewritten.
    pub numbers: Numbers,
    /// What the dependency descriptor says of the frame.
    pub dependency: Option<Dependency>,
}

/// Picture id, TL0PICIDX and KEYIDX, with their places in the payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Numbers {
    /// 7 or 15 bits; of AV1 the frame number of the dependency descriptor.
    pub picture_id: Option<u16>,
    /// Temporal layer zero picture index.
    pub tl0_pic_idx: Option<u8>,
    /// VP8's running number of key frames, 5 bits.
    pub key_idx: Option<u8>,
    /// Where in the payload the picture id is, and whether it has 15 bits.
    picture_id_at: Option<(u8, bool)>,
    tl0_at: Option<u8>,
    /// It shares its byte with the temporal layer.
    key_idx_at: Option<u8>,
}

impl Numbers {
    /// Of a codec that has none.
    #[cfg(test)]
    pub const NONE: Self = Self {
        picture_id: None,
        tl0_pic_idx: None,
        key_idx: None,
        picture_id_at: None,
        tl0_at: None,
        key_idx_at: None,
    };

    /// Adds to each, in place.
    pub fn shift(&self, payload: &mut [u8], shift: &Shift) {
        if let (Some((at, long)), Some(id)) = (self.picture_id_at, self.picture_id) {
            let (at, id) = (usize::from(at), id.wrapping_add(shift.picture_id));
            if long && let Some(place) = payload.get_mut(at..at + 2) {
                place.copy_from_slice(&(0x8000 | id).to_be_bytes());
            } else if !long && let Some(place) = payload.get_mut(at) {
                *place = id as u8 & 0x7f;
            }
        }
        if let Some(place) = self.tl0_at.and_then(|at| payload.get_mut(usize::from(at))) {
            *place = place.wrapping_add(shift.tl0_pic_idx);
        }
        if let (Some(at), Some(index)) = (self.key_idx_at, self.key_idx)
            && let Some(place) = payload.get_mut(usize::from(at))
        {
            *place = (*place & 0xe0) | (index.wrapping_add(shift.key_idx) & 0x1f);
        }
    }

    /// Reads a picture id of 7 or 15 bits at `at`; returns where it ends.
    fn read_picture_id(&mut self, payload: &[u8], at: usize) -> Option<usize> {
        let high = *payload.get(at)?;
        let long = high & 0x80 != 0;
        self.picture_id_at = Some((at as u8, long));
        self.picture_id =
            Some(if long { u16::from_be_bytes([high & 0x7f, *payload.get(at + 1)?]) } else { u16::from(high) });
        Some(at + 1 + usize::from(long))
    }

    /// Reads KEYIDX from the byte `layer`, which is at `at`.
    fn read_key_idx(&mut self, layer: u8, at: usize) {
        self.key_idx = Some(layer & 0x1f);
        self.key_idx_at = Some(at as u8);
    }

    fn read_tl0(&mut self, payload: &[u8], at: usize) -> Option<usize> {
        self.tl0_pic_idx = Some(*payload.get(at)?);
        self.tl0_at = Some(at as u8);
        Some(at + 1)
    }
}

/// Understands a payload. One that cannot be understood is a packet of the only layer at which nothing
/// starts.
pub(crate) fn picture(codec: Codec, payload: &[u8], marker: bool, dependency: Option<Dependency>) -> Picture {
    let plain = |starts| Picture { starts, begins: starts, ends: marker, ..Picture::default() };
    match codec {
        Codec::Opus | Codec::Red | Codec::Other => plain(true),
        Codec::Vp8 => vp8::picture(payload, marker).unwrap_or_else(|| plain(false)),
        Codec::Vp9 => vp9::picture(payload).unwrap_or_else(|| plain(false)),
        Codec::H264 => plain(h264::starts(payload)),
        Codec::Av1 => match dependency {
            Some(dependency) => dependency.picture(marker),
            None => plain(av1::starts(payload)),
        },
    }
}

/// Whether only some packets are key frames, so that a subscriber has to wait for one.
pub(crate) fn has_key_frames(codec: Codec) -> bool {
    !matches!(codec, Codec::Opus | Codec::Red | Codec::Other)
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
            (Codec::Vp9, &[0xa8, 0x81, 0x23, 0x00, 0x07], true),
            (Codec::Vp9, &[0xa8, 0x81, 0x23, 0x02, 0x07], false),
            (Codec::Vp9, &[], false),
            (Codec::Av1, &[0x18, 0x0a], true),
            (Codec::Av1, &[0x10, 0x32], false),
            (Codec::Av1, &[], false),
        ] {
            assert_eq!(picture(codec, payload, false, None).starts, expected, "{codec:?} {payload:02x?}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_payloads_never_panic(
            mut payload in prop::collection::vec(any::<u8>(), 0..24),
            marker: bool,
            picture_id: u16,
        ) {
            for codec in [Codec::Opus, Codec::Red, Codec::Vp8, Codec::Vp9, Codec::H264, Codec::Av1, Codec::Other] {
                let before = picture(codec, &payload, marker, None);
                let shift = Shift { picture_id, tl0_pic_idx: 9, key_idx: 5, ..Shift::default() };
                before.numbers.shift(&mut payload, &shift);
                let after = picture(codec, &payload, marker, None);
                prop_assert_eq!((before.spatial, before.temporal), (after.spatial, after.temporal));
                prop_assert_eq!((before.starts, before.begins, before.ends), (after.starts, after.begins, after.ends));
                if let (Some(old), Some(new)) = (before.numbers.picture_id, after.numbers.picture_id) {
                    let bits = if before.numbers.picture_id_at.unwrap().1 { 0x7fff } else { 0x7f };
                    prop_assert_eq!(new, old.wrapping_add(picture_id) & bits);
                }
                let keys = |numbers: Numbers| numbers.key_idx;
                prop_assert_eq!(keys(after.numbers), keys(before.numbers).map(|old| (old + 5) & 0x1f));
            }
        }
    }
}
