//! Decides packet by packet which layers of a producer a subscriber gets, and where they change.
//!
//! Down at the first packet of any picture, because nothing depends on what is above it. Up where a decoder
//! that did not get the higher layer so far can go on: at a key frame, and where the codec says so. To
//! another encoding at a key frame of it only.

use super::Layers;
use crate::core::codec::{Dependency, Picture};

/// A packet of a producer, as far as layers go.
pub(crate) struct Packet<'a> {
    pub encoding: usize,
    pub picture: &'a Picture,
    pub timestamp: u32,
    /// None with a higher sequence number came before in its encoding.
    pub newest: bool,
}

/// An encoding, and the layers within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    pub encoding: usize,
    pub limits: Layers,
}

/// What becomes of a packet for one subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It goes out.
    Forward,
    /// It goes out, and from here on under new limits.
    Turn,
    /// It goes out as the beginning of another encoding, or of all.
    Begin,
    /// It came late: what was decided for its neighbours holds for it.
    Late,
    /// Above the limits. The numbers of what follows must close over it.
    Skip,
    /// Of an encoding that is not being forwarded, as most are.
    Other,
    /// Nothing can begin before a key frame.
    Await,
    /// Nothing is permitted.
    Held,
}

/// The layers of one subscriber.
#[derive(Clone, Debug)]
pub(crate) struct Selector {
    /// One encoding: spatial layers are within it.
    svc: bool,
    preferred: Layers,
    allowed: Option<Layers>,
    current: Option<Choice>,
    /// Of the newest packet of the current encoding.
    timestamp: u32,
    frames: Frames,
}

impl Selector {
    /// For a producer of so many encodings; everything is wanted and permitted.
    pub fn new(encodings: usize) -> Self {
        Self {
            svc: encodings == 1,
            preferred: Layers::ALL,
            allowed: Some(Layers::ALL),
            current: None,
            timestamp: 0,
            frames: Frames::default(),
        }
    }

    /// What the client asked for.
    pub fn preferred(&self) -> Layers {
        self.preferred
    }

    /// The client asks for no more than these.
    pub fn prefer(&mut self, layers: Layers) {
        self.preferred = layers;
    }

    /// What the network permits.
    pub fn allowed(&self) -> Option<Layers> {
        self.allowed
    }

    /// The network permits no more than these; with `None` nothing is sent, and what comes after begins
    /// with a key frame.
    pub fn allow(&mut self, layers: Option<Layers>) {
        self.allowed = layers;
        if layers.is_none() {
            self.current = None;
        }
    }

    /// The least of what is wanted and what is permitted.
    pub fn target(&self) -> Option<Layers> {
        self.allowed.map(|allowed| allowed.min(self.preferred))
    }

    /// What is being forwarded; `None` while waiting for a key frame. A layer above those of the producer
    /// means all of them.
    pub fn current(&self) -> Option<Layers> {
        let Choice { encoding, limits } = self.current?;
        Some(if self.svc { limits } else { Layers { spatial: encoding as u8, temporal: limits.temporal } })
    }

    /// The encoding that is being forwarded.
    pub fn encoding(&self) -> Option<usize> {
        self.current.map(|choice| choice.encoding)
    }

    /// Limits within the encoding that is being forwarded.
    pub fn limits(&self) -> Layers {
        self.current.map_or(Layers::ALL, |choice| choice.limits)
    }

    /// Nothing is forwarded until the next packet that a decoder can start at.
    pub fn restart(&mut self) {
        self.current = None;
    }

    /// Where the target lies, if `best` is the best encoding up to it that is being received.
    pub fn aim(&self, best: usize) -> Option<Choice> {
        let target = self.target()?;
        if self.svc {
            return Some(Choice { encoding: 0, limits: target });
        }
        // The temporal layer is wanted of the spatial one that was named; of a lower one there can be all.
        let temporal = if best < usize::from(target.spatial) { u8::MAX } else { target.temporal };
        Some(Choice { encoding: best, limits: Layers { spatial: u8::MAX, temporal } })
    }

    /// Decides on a packet, given where the target lies.
    pub fn admit(&mut self, packet: &Packet<'_>, aim: Option<Choice>) -> Verdict {
        let Some(aim) = aim else { return Verdict::Held };
        match self.current {
            Some(current) if current.encoding == packet.encoding => {
                if !packet.newest {
                    return Verdict::Late;
                }
                let wanted = if aim.encoding == current.encoding { aim.limits } else { current.limits };
                self.go_on(packet, current, wanted)
            }
            _ if packet.encoding != aim.encoding => Verdict::Other,
            None if !packet.picture.starts => Verdict::Await,
            Some(_) if !packet.picture.starts => Verdict::Other,
            _ => {
                self.current = Some(aim);
                self.timestamp = packet.timestamp;
                self.frames = Frames::default();
                self.note(packet.picture);
                Verdict::Begin
            }
        }
    }

    fn go_on(&mut self, packet: &Packet<'_>, current: Choice, wanted: Layers) -> Verdict {
        let picture = packet.picture;
        let mut limits = current.limits;
        if picture.starts {
            limits = wanted;
        } else {
            if packet.timestamp != self.timestamp {
                limits = limits.within(wanted);
            }
            if picture.begins && limits.within(wanted) != wanted {
                limits = self.raise(picture, limits, wanted);
            }
        }
        self.timestamp = packet.timestamp;
        self.current = Some(Choice { limits, ..current });
        if !limits.hold(picture.spatial, picture.temporal) {
            return Verdict::Skip;
        }
        self.note(picture);
        if limits == current.limits { Verdict::Forward } else { Verdict::Turn }
    }

    /// The limits from the frame that begins here on, if they can be raised here.
    fn raise(&self, picture: &Picture, limits: Layers, wanted: Layers) -> Layers {
        let mut raised = limits;
        if let Some(frame) = &picture.dependency {
            return self.raise_by_dependency(frame, limits, wanted);
        }
        if wanted.temporal > limits.temporal {
            if picture.enters_temporal && picture.temporal == limits.temporal + 1 {
                raised.temporal += 1;
            } else if picture.opens_temporal && picture.temporal <= limits.temporal {
                raised.temporal = wanted.temporal;
            }
        }
        let above = limits.spatial.saturating_add(1);
        if wanted.spatial > limits.spatial && picture.enters_spatial && picture.spatial == above {
            raised.spatial = above;
        }
        raised
    }

    fn raise_by_dependency(&self, frame: &Dependency, limits: Layers, wanted: Layers) -> Layers {
        if !frame.diffs().iter().all(|diff| self.frames.has(frame.frame_number.wrapping_sub(*diff))) {
            return limits;
        }
        let highest = frame.highest;
        let temporal = wanted.temporal.max(limits.temporal);
        let candidates = [
            Layers { spatial: wanted.spatial.max(limits.spatial), temporal },
            Layers { spatial: frame.spatial.clamp(limits.spatial, wanted.spatial.max(limits.spatial)), temporal },
            Layers { spatial: limits.spatial, temporal },
        ];
        let possible = |layers: &&Layers| {
            let within = layers.within(highest);
            frame.switches_to(within.spatial, within.temporal)
        };
        candidates.iter().find(possible).copied().unwrap_or(limits)
    }

    fn note(&mut self, picture: &Picture) {
        if let Some(frame) = &picture.dependency {
            self.frames.add(frame.frame_number);
        }
    }
}

/// Numbers of the last frames that were forwarded.
#[derive(Clone, Copy, Debug, Default)]
struct Frames {
    newest: u16,
    /// Bit n: the frame n before the newest.
    set: u128,
}

impl Frames {
    fn add(&mut self, number: u16) {
        let ahead = number.wrapping_sub(self.newest);
        if self.set == 0 || ahead < 1 << 15 {
            self.set = if self.set == 0 { 1 } else { self.set.checked_shl(ahead.into()).unwrap_or(0) | 1 };
            self.newest = number;
        } else {
            self.set |= 1u128.checked_shl(self.newest.wrapping_sub(number).into()).unwrap_or(0);
        }
    }

    fn has(&self, number: u16) -> bool {
        let back = u32::from(self.newest.wrapping_sub(number));
        self.set.checked_shr(back).unwrap_or(0) & 1 == 1
    }
}

#[cfg(test)]
#[path = "selector_tests.rs"]
mod tests;
