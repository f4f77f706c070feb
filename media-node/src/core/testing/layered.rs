//! Pictures in layers: what a scalable encoder sends, and a decoder that is as strict as a real one.
//!
//! Every frame names the frames that it was made from, so that a decoder can tell whether it got them.

use std::collections::{BTreeMap, BTreeSet};

use super::receiver::Incoming;
use crate::core::command::{Codec, ScalabilityMode};
use crate::core::testing::bits::BitWriter;

/// Begins what the encoder writes, behind the payload descriptor.
const MAGIC: &[u8; 8] = b"LAYERED!";

/// A frame of one spatial layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub id: u64,
    pub spatial: u8,
    pub temporal: u8,
    pub refs: Vec<u64>,
    /// Needs no other picture.
    pub intra: bool,
    /// Needs a lower layer of its picture.
    pub inter_layer: bool,
    /// Later frames of higher temporal layers need none of those from before.
    pub opens: bool,
    /// Needs nothing of its temporal layer.
    pub sync: bool,
    pub key: bool,
}

/// Running numbers: of pictures, of those of the lowest temporal layer, of key frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Numbers {
    pub picture_id: u16,
    pub tl0: u8,
    pub key: u8,
}

/// Three temporal layers as 0-2-1-2, two as 0-1. In every other round the middle layer also needs itself, so
/// that it is not to be entered there.
pub(crate) struct Encoder {
    pub mode: ScalabilityMode,
    next_id: u64,
    step: usize,
    /// The last frame by spatial and temporal layer.
    last: BTreeMap<(u8, u8), u64>,
}

impl Encoder {
    pub fn new(mode: ScalabilityMode, first_id: u64) -> Self {
        Self { mode, next_id: first_id, step: 0, last: BTreeMap::new() }
    }

    pub fn picture(&mut self, key: bool) -> Vec<Frame> {
        if key {
            self.step = 0;
            self.last.clear();
        }
        let pattern: &[u8] = match self.mode.temporal {
            1 => &[0],
            2 => &[0, 1],
            _ => &[0, 2, 1, 2],
        };
        let (temporal, opens_round) =
            (pattern[self.step % pattern.len()], (self.step / pattern.len()).is_multiple_of(2));
        self.step += 1;
        let mut frames: Vec<Frame> = Vec::new();
        for spatial in 0..self.mode.spatial {
            let mut refs = BTreeSet::new();
            if !key {
                refs.extend(self.last.get(&(spatial, 0)));
                // The second of two in the highest layer is made from the middle one.
                if temporal == 2 && self.step.is_multiple_of(4) {
                    refs.extend(self.last.get(&(spatial, 1)));
                }
                if temporal == 1 && !opens_round {
                    refs.extend(self.last.get(&(spatial, 1)));
                }
            }
            let inter_layer = spatial > 0 && (key || !self.mode.key);
            if inter_layer {
                refs.extend(frames.last().map(|below| below.id));
            }
            let id = self.next_id;
            self.next_id += 1;
            let of_lowest = |r: &u64| self.last.get(&(spatial, 0)) == Some(r) || frames.iter().any(|f| f.id == *r);
            frames.push(Frame {
                id,
                spatial,
                temporal,
                sync: temporal > 0 && refs.iter().all(of_lowest),
                refs: refs.into_iter().collect(),
                intra: key,
                inter_layer,
                opens: temporal > 0 || opens_round,
                key,
            });
        }
        for frame in &frames {
            self.last.insert((frame.spatial, frame.temporal), frame.id);
            if key {
                self.last.insert((frame.spatial, 1), frame.id);
            }
        }
        frames
    }
}

impl Frame {
    /// The payload descriptor of a packet.
    pub fn descriptor(&self, codec: Codec, numbers: Numbers, first: bool, last: bool) -> Vec<u8> {
        let Numbers { picture_id, tl0, key } = numbers;
        let [high, low] = (0x8000 | picture_id).to_be_bytes();
        match codec {
            Codec::Vp8 => {
                let layer = (self.temporal << 6) | (u8::from(self.sync) << 5) | (key & 0x1f);
                vec![if first { 0x90 } else { 0x80 }, 0xf0, high, low, tl0, layer, u8::from(!self.key)]
            }
            Codec::Vp9 => {
                let flags = 0xa0 | (u8::from(!self.intra) << 6) | (u8::from(first) << 3) | (u8::from(last) << 2);
                let layer = (self.temporal << 5)
                    | (u8::from(self.opens) << 4)
                    | (self.spatial << 1)
                    | u8::from(self.inter_layer);
                vec![flags, high, low, layer, tl0]
            }
            _ => vec![if self.key && first && self.spatial == 0 { 0x18 } else { 0x10 }],
        }
    }

    /// The dependency descriptor of a packet; frame numbers are the low bits of ids.
    pub fn dependency(&self, mode: ScalabilityMode, first: bool, last: bool) -> Vec<u8> {
        let mut bits = BitWriter::default();
        bits.put(u32::from(first), 1).put(u32::from(last), 1);
        let template = self.spatial * mode.temporal + self.temporal;
        bits.put(template.into(), 6).put((self.id as u16).into(), 16);
        let structure = self.key && self.spatial == 0 && first;
        // A structure, no mask, indications and references of its own, no chains.
        bits.put(structure.into(), 1).put(0, 1).put(1, 1).put(1, 1).put(0, 1);
        let targets = mode.spatial * mode.temporal;
        let layers = |n: u8| (n / mode.temporal, n % mode.temporal);
        if structure {
            bits.put(0, 6).put(u32::from(targets) - 1, 5);
            for n in 0..targets {
                let next = if n + 1 == targets {
                    3
                } else if layers(n + 1).0 > layers(n).0 {
                    2
                } else {
                    1
                };
                bits.put(next, 2);
            }
            for (n, target) in (0..targets).flat_map(|n| (0..targets).map(move |t| (n, t))) {
                let (frame, target) = (layers(n), layers(target));
                bits.put(if frame.0 <= target.0 && frame.1 <= target.1 { 3 } else { 0 }, 2);
            }
            for _ in 0..targets {
                bits.put(0, 1);
            }
            // No chains: ns(targets + 1) of 0 has as many bits as floor(log2(targets + 1)).
            bits.put(0, (u32::from(targets) + 1).ilog2());
            bits.put(0, 1);
        }
        for target in 0..targets {
            bits.put(self.indication(mode, layers(target)), 2);
        }
        for reference in &self.refs {
            bits.put(1, 2).put((self.id - reference - 1) as u32, 4);
        }
        bits.put(0, 2);
        bits.bytes()
    }

    /// 0 absent, 1 discardable, 2 switch, 3 required.
    fn indication(&self, mode: ScalabilityMode, (spatial, temporal): (u8, u8)) -> u32 {
        if self.spatial > spatial || self.temporal > temporal {
            return 0;
        }
        if self.spatial < spatial && mode.key && !self.key {
            return 0;
        }
        if self.key {
            return 2;
        }
        if self.spatial < spatial {
            return 3;
        }
        match self.temporal {
            0 if temporal == 0 || self.opens => 2,
            0 => 3,
            _ => 1,
        }
    }

    /// What follows the descriptor.
    pub fn body(&self, counter: u64, part: u8, parts: u8) -> Vec<u8> {
        let mut body = MAGIC.to_vec();
        body.extend_from_slice(&counter.to_be_bytes());
        body.extend_from_slice(&self.id.to_be_bytes());
        body.extend_from_slice(&[part, parts, self.spatial, self.temporal, self.refs.len() as u8]);
        for reference in &self.refs {
            body.extend_from_slice(&reference.to_be_bytes());
        }
        body
    }
}

/// A packet of a frame as a subscriber got it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Part {
    pub frame: u64,
    pub part: u8,
    pub parts: u8,
    pub spatial: u8,
    pub temporal: u8,
    pub refs: Vec<u64>,
    pub descriptor: Vec<u8>,
}

impl Part {
    /// The part and its count, if the payload is one.
    pub fn read(payload: &[u8]) -> Option<(u64, Self)> {
        let at = payload.windows(MAGIC.len()).position(|w| w == MAGIC)?;
        let number = |from: usize| u64::from_be_bytes(payload[from..from + 8].try_into().unwrap());
        let &[part, parts, spatial, temporal, count] = payload[at + 24..].first_chunk().unwrap();
        let refs = (0..usize::from(count)).map(|i| number(at + 29 + 8 * i)).collect();
        let descriptor = payload[..at].to_vec();
        Some((number(at + 8), Self { frame: number(at + 16), part, parts, spatial, temporal, refs, descriptor }))
    }
}

/// What a decoder made of a stream.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Decoded {
    /// Frames that came whole and with all that they were made from.
    pub frames: usize,
    /// Frames that came in part.
    pub cut: usize,
    /// Frames that came without something that they were made from.
    pub broken: usize,
    /// Numbers that never came.
    pub gaps: u64,
    /// Pictures without a marker on their last packet, or with one before.
    pub unmarked: usize,
    /// Of each picture, by timestamp: the highest layers decoded.
    pub pictures: Vec<(u32, u8, u8)>,
    /// Picture ids in order, of codecs that have them.
    pub picture_ids: Vec<u16>,
    /// Pictures of VP8 whose TL0PICIDX or KEYIDX does not follow from the picture before, with both.
    pub misnumbered: Vec<(Numbers, Numbers)>,
    /// The longest time between pictures, in timestamp units.
    pub longest: u32,
}

/// Of the first packet of a VP8 picture: its numbers, and whether they follow others.
fn vp8_numbers(picture_id: u16, part: &Part) -> Option<(Numbers, impl Fn(Numbers) -> bool)> {
    let &[_, _, _, _, tl0, layer, header] = part.descriptor.first_chunk()?;
    let (lowest, is_key) = (layer >> 6 == 0, header & 1 == 0);
    let numbers = Numbers { picture_id, tl0, key: layer & 0x1f };
    let follows = move |before: Numbers| {
        tl0 == before.tl0.wrapping_add(u8::from(lowest)) && numbers.key == (before.key + u8::from(is_key)) & 0x1f
    };
    Some((numbers, follows))
}

/// Decodes what came, in the order of sequence numbers.
pub(crate) fn decode(stream: &Incoming) -> Decoded {
    let mut decoded = Decoded::default();
    let (mut good, mut seen) = (BTreeSet::new(), BTreeMap::<u64, BTreeSet<u8>>::new());
    let (mut previous, mut last_packet): (Option<u64>, Option<(u32, bool)>) = (None, None);
    let mut last_numbers: Option<Numbers> = None;
    for (&index, packet) in &stream.packets {
        if let Some(previous) = previous {
            decoded.gaps += (previous + 1..index).filter(|i| !stream.fills.contains(i)).count() as u64;
        }
        previous = Some(index);
        let Some(part) = &packet.part else { continue };
        if let Some((timestamp, marker)) = last_packet
            && marker == (timestamp == packet.timestamp)
        {
            decoded.unmarked += 1;
        }
        last_packet = Some((packet.timestamp, packet.marker));
        if part.descriptor.len() > 1 && decoded.picture_ids.last() != Some(&packet.picture_id) {
            decoded.picture_ids.push(packet.picture_id);
            if let Some((numbers, follows)) = vp8_numbers(packet.picture_id, part)
                && let Some(before) = last_numbers.replace(numbers)
                && !follows(before)
            {
                decoded.misnumbered.push((before, numbers));
            }
        }
        let parts = seen.entry(part.frame).or_default();
        parts.insert(part.part);
        if parts.len() < part.parts.into() {
            continue;
        }
        if part.refs.iter().all(|r| good.contains(r)) {
            good.insert(part.frame);
            decoded.frames += 1;
            match decoded.pictures.last_mut() {
                Some((timestamp, spatial, temporal)) if *timestamp == packet.timestamp => {
                    (*spatial, *temporal) = ((*spatial).max(part.spatial), (*temporal).max(part.temporal));
                }
                last => {
                    let step = last.map_or(0, |(timestamp, ..)| packet.timestamp.wrapping_sub(*timestamp));
                    decoded.longest = decoded.longest.max(step);
                    decoded.pictures.push((packet.timestamp, part.spatial, part.temporal));
                }
            }
        } else {
            decoded.broken += 1;
        }
    }
    let whole: BTreeMap<u64, u8> =
        stream.packets.values().filter_map(|p| p.part.as_ref()).map(|p| (p.frame, p.parts)).collect();
    decoded.cut = seen.iter().filter(|(frame, parts)| parts.len() < whole[frame].into()).count();
    decoded
}
