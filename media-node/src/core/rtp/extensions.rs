//! Header extensions (RFC 8285): found by walking the block, rewritten by building a new one.

use crate::core::command::{ExtensionKind, HeaderExtension};

const ONE_BYTE: u16 = 0xbede;
/// The low four bits are "appbits", ours to ignore.
const TWO_BYTE: u16 = 0x1000;
const KINDS: usize = 10;

/// Where the extension block of a packet is, and how to read it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Extensions {
    profile: u16,
    start: u16,
    len: u16,
}

impl Extensions {
    /// `None` for a block that no datagram could hold.
    pub fn new(profile: u16, start: usize, len: usize) -> Option<Self> {
        Some(Self { profile, start: start.try_into().ok()?, len: len.try_into().ok()? })
    }

    /// Calls `found` with the id and value of each element. A block that is cut short ends early;
    /// RFC 8285 §4.2 says the same of id 15 in the one-byte form.
    pub fn walk<'a>(&self, packet: &'a [u8], mut found: impl FnMut(u8, &'a [u8])) {
        let start = usize::from(self.start);
        let Some(mut rest) = packet.get(start..start + usize::from(self.len)) else { return };
        let one_byte = self.profile == ONE_BYTE;
        if !one_byte && self.profile & 0xfff0 != TWO_BYTE {
            return;
        }
        while let Some((&first, tail)) = rest.split_first() {
            if first == 0 {
                rest = tail;
                continue;
            }
            let (id, len, body) = if one_byte {
                (first >> 4, usize::from(first & 0x0f) + 1, tail)
            } else {
                let Some((&len, body)) = tail.split_first() else { return };
                (first, usize::from(len), body)
            };
            if (one_byte && id == 15) || body.len() < len {
                return;
            }
            let (value, next) = body.split_at(len);
            // Id 0 with a length in the one-byte form is padding that lies; skip what it claims.
            if id != 0 {
                found(id, value);
            }
            rest = next;
        }
    }
}

/// Negotiated ids of one direction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ids(Vec<HeaderExtension>);

impl Ids {
    /// Later entries for a kind or an id that is taken are ignored, as is id 0.
    pub fn new(extensions: &[HeaderExtension]) -> Self {
        let mut ids: Vec<HeaderExtension> = Vec::with_capacity(extensions.len().min(KINDS));
        for extension in extensions {
            let taken = ids.iter().any(|e| e.id == extension.id || e.kind == extension.kind);
            if extension.id != 0 && !taken {
                ids.push(*extension);
            }
        }
        Self(ids)
    }

    fn kind(&self, id: u8) -> Option<ExtensionKind> {
        self.0.iter().find(|e| e.id == id).map(|e| e.kind)
    }

    pub fn iter(&self) -> impl Iterator<Item = HeaderExtension> + '_ {
        self.0.iter().copied()
    }
}

/// The extension values of one packet, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Values<'a>([Option<&'a [u8]>; KINDS]);

impl<'a> Values<'a> {
    /// The first value of each negotiated kind.
    pub fn read(packet: &'a [u8], extensions: &Extensions, ids: &Ids) -> Self {
        let mut values = Self::default();
        extensions.walk(packet, |id, value| {
            if let Some(kind) = ids.kind(id) {
                values.0[kind as usize].get_or_insert(value);
            }
        });
        values
    }

    pub fn get(&self, kind: ExtensionKind) -> Option<&'a [u8]> {
        self.0[kind as usize]
    }

    /// A value that must be text.
    pub fn text(&self, kind: ExtensionKind) -> Option<&'a str> {
        std::str::from_utf8(self.get(kind)?).ok()
    }

    /// Transport-wide sequence number.
    pub fn transport_cc(&self) -> Option<u16> {
        Some(u16::from_be_bytes(*self.get(ExtensionKind::TransportCc)?.first_chunk()?))
    }

    /// When the packet was sent, in 24 bits of 6.18 fixed point seconds (webrtc.org abs-send-time).
    pub fn abs_send_time(&self) -> Option<u32> {
        let &[high, middle, low] = self.get(ExtensionKind::AbsSendTime)?.first_chunk()?;
        Some(u32::from_be_bytes([0, high, middle, low]))
    }

    /// RFC 6464: loudness as -dBov, 0 (loudest) to 127 (silence).
    pub fn audio_level(&self) -> Option<u8> {
        Some(*self.get(ExtensionKind::AudioLevel)?.first()? & 0x7f)
    }
}

/// Appends an extension block to a packet that is being written.
pub(super) struct Writer<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    one_byte: bool,
}

impl<'a> Writer<'a> {
    /// Writes the block's header; [`Writer::finish`] completes it.
    pub fn new(out: &'a mut Vec<u8>, one_byte: bool) -> Self {
        let start = out.len();
        let profile = if one_byte { ONE_BYTE } else { TWO_BYTE };
        out.extend_from_slice(&profile.to_be_bytes());
        out.extend_from_slice(&[0, 0]);
        Self { out, start, one_byte }
    }

    /// One element. A value that the form cannot hold is left out (see [`fits_one_byte`]).
    pub fn put(&mut self, id: u8, value: &[u8]) {
        if self.one_byte {
            if fits_one_byte(id, value.len()) {
                self.out.push((id << 4) | (value.len() as u8 - 1));
                self.out.extend_from_slice(value);
            }
        } else if let Ok(len) = u8::try_from(value.len()) {
            self.out.extend_from_slice(&[id, len]);
            self.out.extend_from_slice(value);
        }
    }

    /// Pads to a word and fills in the length.
    pub fn finish(self) {
        let body = self.out.len() - self.start - 4;
        let words = body.div_ceil(4);
        self.out.resize(self.start + 4 + words * 4, 0);
        // Ten kinds of at most 255 bytes: far below 2^16 words.
        self.out[self.start + 2..self.start + 4].copy_from_slice(&(words as u16).to_be_bytes());
    }
}

/// Whether the one-byte form can hold an element.
pub(super) fn fits_one_byte(id: u8, len: usize) -> bool {
    (1..=14).contains(&id) && (1..=16).contains(&len)
}
