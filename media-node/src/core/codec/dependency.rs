//! The dependency descriptor header extension (RTP Payload Format For AV1, appendix A): which frame a
//! packet belongs to, in which layers, and what it depends on.
//!
//! It comes from the publisher: reading is bounded by its length and by the tables below, and whatever
//! contradicts itself is as good as absent.

use super::{Numbers, Picture};
use crate::core::layers::{Layers, MAX_SPATIAL, MAX_TEMPORAL};

const MAX_TEMPLATES: usize = 64;
const MAX_TARGETS: usize = 32;
/// Frames that one frame may refer to. More than these is no encoder's doing (AV1 has seven references).
const MAX_DIFFS: usize = 8;

/// A decode target indication (A.2).
const NOT_PRESENT: u8 = 0;
const SWITCH: u8 = 2;

/// What is known of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dependency {
    pub first_in_frame: bool,
    pub last_in_frame: bool,
    pub frame_number: u16,
    pub spatial: u8,
    pub temporal: u8,
    /// The descriptor brings a new structure, as the first packet of a key frame does.
    pub has_structure: bool,
    /// The highest layers of the structure.
    pub highest: Layers,
    /// Layers that may be switched to at this frame, provided that it can be decoded: bit
    /// `spatial * MAX_TEMPORAL + temporal`.
    switch: u16,
    /// How far back the frames are that this one refers to.
    diffs: [u16; MAX_DIFFS],
    diff_count: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
struct Template {
    spatial: u8,
    temporal: u8,
    /// Two bits for each decode target.
    indications: u64,
    diffs: [u16; MAX_DIFFS],
    diff_count: u8,
}

/// What a publisher's frames are like, from the last key frame on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Structure {
    offset: u8,
    templates: Vec<Template>,
    targets: u8,
    chains: u8,
    /// Layers of each decode target.
    layers: [(u8, u8); MAX_TARGETS],
}

impl Dependency {
    /// Reads a descriptor. `known` is the structure of the descriptors before it; a new one comes back.
    /// `None` where the descriptor is malformed, or refers to a structure that is not known.
    pub fn parse(bytes: &[u8], known: Option<&Structure>) -> Option<(Self, Option<Structure>)> {
        let mut bits = Bits { bytes, at: 0 };
        let (first, last) = (bits.flag()?, bits.flag()?);
        let (template, frame_number) = (bits.read(6)? as u8, bits.read(16)? as u16);
        let (mut structure, mut custom) = (None, [false; 3]);
        let has_more = bytes.len() > 3;
        if has_more {
            let (has_structure, has_active) = (bits.flag()?, bits.flag()?);
            custom = [bits.flag()?, bits.flag()?, bits.flag()?];
            if has_structure {
                structure = Some(Structure::parse(&mut bits)?);
            }
            if has_active {
                bits.read(structure.as_ref().or(known)?.targets.into())?;
            }
        }
        let used = structure.as_ref().or(known)?;
        let index = (template + 64 - used.offset) % 64;
        let mut frame = *used.templates.get(usize::from(index))?;
        let [custom_indications, custom_diffs, custom_chains] = custom;
        if custom_indications {
            frame.indications = bits.indications(used.targets)?;
        }
        if custom_diffs {
            (frame.diffs, frame.diff_count) = ([0; MAX_DIFFS], 0);
            loop {
                let size = bits.read(2)?;
                if size == 0 {
                    break;
                }
                frame.add_diff(bits.read(4 * size)? as u16 + 1)?;
            }
        }
        if custom_chains {
            for _ in 0..used.chains {
                bits.read(8)?;
            }
        }
        let this = Self {
            first_in_frame: first,
            last_in_frame: last,
            frame_number,
            spatial: frame.spatial,
            temporal: frame.temporal,
            has_structure: structure.is_some(),
            highest: used.highest(),
            switch: used.switches(frame.indications),
            diffs: frame.diffs,
            diff_count: frame.diff_count,
        };
        Some((this, structure))
    }

    /// How far back the frames are that this one refers to; 1 is the one before.
    pub fn diffs(&self) -> &[u16] {
        &self.diffs[..usize::from(self.diff_count)]
    }

    /// Whether a decoder that got everything this frame refers to can be given these layers from here on.
    pub fn switches_to(&self, spatial: u8, temporal: u8) -> bool {
        self.switch & bit(spatial, temporal) != 0
    }

    pub(super) fn picture(&self, marker: bool) -> Picture {
        Picture {
            spatial: self.spatial,
            temporal: self.temporal,
            starts: self.has_structure && self.first_in_frame && self.diff_count == 0 && self.spatial == 0,
            begins: self.first_in_frame,
            ends: self.last_in_frame || marker,
            numbers: Numbers { picture_id: Some(self.frame_number), ..Numbers::default() },
            dependency: Some(*self),
            ..Picture::default()
        }
    }
}

/// Adds to the frame number of a descriptor, in place.
pub(crate) fn renumber(descriptor: &mut [u8], shift: u16) {
    if let Some([_, high, low]) = descriptor.first_chunk_mut() {
        [*high, *low] = u16::from_be_bytes([*high, *low]).wrapping_add(shift).to_be_bytes();
    }
}

fn bit(spatial: u8, temporal: u8) -> u16 {
    let (s, t) = (usize::from(spatial).min(MAX_SPATIAL - 1), usize::from(temporal).min(MAX_TEMPORAL - 1));
    1 << (s * MAX_TEMPORAL + t)
}

impl Template {
    fn add_diff(&mut self, diff: u16) -> Option<()> {
        *self.diffs.get_mut(usize::from(self.diff_count))? = diff;
        self.diff_count += 1;
        Some(())
    }
}

impl Structure {
    /// A.8.2 and the sections after it.
    fn parse(bits: &mut Bits<'_>) -> Option<Self> {
        let (offset, targets) = (bits.read(6)? as u8, bits.read(5)? as u8 + 1);
        let mut templates = Vec::new();
        let mut template = Template::default();
        loop {
            if templates.len() == MAX_TEMPLATES {
                return None;
            }
            templates.push(template);
            match bits.read(2)? {
                0 => {}
                1 => template.temporal += 1,
                2 => (template.spatial, template.temporal) = (template.spatial + 1, 0),
                _ => break,
            }
        }
        for template in &mut templates {
            template.indications = bits.indications(targets)?;
        }
        for template in &mut templates {
            while bits.flag()? {
                template.add_diff(bits.read(4)? as u16 + 1)?;
            }
        }
        let chains = bits.non_symmetric(u32::from(targets) + 1)? as u8;
        if chains > 0 {
            for _ in 0..targets {
                bits.non_symmetric(chains.into())?;
            }
            for _ in 0..templates.len() * usize::from(chains) {
                bits.read(4)?;
            }
        }
        if bits.flag()? {
            let highest = templates.last().map_or(0, |t| t.spatial);
            for _ in 0..=highest {
                bits.read(32)?;
            }
        }
        // A.8.2.5: a decode target is of the highest layers of what is present in it.
        let mut layers = [(0, 0); MAX_TARGETS];
        for (target, layers) in layers.iter_mut().enumerate().take(targets.into()) {
            let present = templates.iter().filter(|t| (t.indications >> (2 * target)) as u8 & 3 != NOT_PRESENT);
            for template in present {
                *layers = (layers.0.max(template.spatial), layers.1.max(template.temporal));
            }
        }
        Some(Self { offset, templates, targets, chains, layers })
    }

    fn highest(&self) -> Layers {
        let layers = &self.layers[..usize::from(self.targets)];
        layers.iter().fold(Layers::LOWEST, |most, &(spatial, temporal)| Layers {
            spatial: most.spatial.max(spatial),
            temporal: most.temporal.max(temporal),
        })
    }

    fn switches(&self, indications: u64) -> u16 {
        self.layers[..usize::from(self.targets)]
            .iter()
            .enumerate()
            .filter(|(target, _)| (indications >> (2 * target)) as u8 & 3 == SWITCH)
            .fold(0, |set, (_, &(spatial, temporal))| set | bit(spatial, temporal))
    }
}

/// Bits, most significant first.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn read(&mut self, count: u32) -> Option<u32> {
        let mut value = 0u32;
        for _ in 0..count {
            let byte = *self.bytes.get(self.at / 8)?;
            value = (value << 1) | u32::from((byte >> (7 - self.at % 8)) & 1);
            self.at += 1;
        }
        Some(value)
    }

    fn flag(&mut self) -> Option<bool> {
        self.read(1).map(|bit| bit == 1)
    }

    /// A number below `n` in as few bits as its value allows (AV1 specification, `ns(n)`).
    fn non_symmetric(&mut self, n: u32) -> Option<u32> {
        let width = u32::BITS - n.leading_zeros();
        let short = (1 << width) - n;
        let value = self.read(width - 1)?;
        if value < short { Some(value) } else { Some((value << 1) - short + self.read(1)?) }
    }

    /// Two bits for each of the decode targets.
    fn indications(&mut self, targets: u8) -> Option<u64> {
        (0..targets).try_fold(0, |set, target| Some(set | (u64::from(self.read(2)?) << (2 * target))))
    }
}

#[cfg(test)]
#[path = "dependency_tests.rs"]
mod tests;
