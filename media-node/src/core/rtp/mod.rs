//! RTP packets (RFC 3550 §5.1) as bytes: read in place, written once per subscriber. Nothing here
//! allocates, and nothing is parsed that is not needed.

pub(crate) mod extensions;
mod rewrite;

#[cfg(test)]
mod tests;

pub(crate) use extensions::{Extensions, Ids, Values};
pub(crate) use rewrite::{Rewrite, Rtx};

/// Fixed part of the header.
pub(crate) const FIXED_HEADER: usize = 12;

/// The header of a received packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub padding: bool,
    pub marker: bool,
    pub payload_type: u8,
    pub sequence: u16,
    pub timestamp: u32,
    pub ssrc: u32,
    /// The extension block, without its own four-byte header.
    pub extensions: Extensions,
    /// Where the payload begins. What precedes it is in the clear, and authenticated, under SRTP.
    pub payload_offset: usize,
}

impl Header {
    /// `None` if `packet` is not RTP version 2 or is cut short.
    pub fn parse(packet: &[u8]) -> Option<Self> {
        let fixed: &[u8; FIXED_HEADER] = packet.first_chunk()?;
        if fixed[0] >> 6 != 2 {
            return None;
        }
        let mut payload_offset = FIXED_HEADER + 4 * usize::from(fixed[0] & 0x0f);
        let mut extensions = Extensions::default();
        if fixed[0] & 0x10 != 0 {
            let &[p0, p1, l0, l1] = packet.get(payload_offset..)?.first_chunk()?;
            let len = 4 * usize::from(u16::from_be_bytes([l0, l1]));
            extensions = Extensions::new(u16::from_be_bytes([p0, p1]), payload_offset + 4, len)?;
            payload_offset += 4 + len;
        }
        if payload_offset > packet.len() {
            return None;
        }
        Some(Self {
            padding: fixed[0] & 0x20 != 0,
            marker: fixed[1] & 0x80 != 0,
            payload_type: fixed[1] & 0x7f,
            sequence: u16::from_be_bytes([fixed[2], fixed[3]]),
            timestamp: u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]),
            ssrc: u32::from_be_bytes([fixed[8], fixed[9], fixed[10], fixed[11]]),
            extensions,
            payload_offset,
        })
    }

    /// Length of the payload of an opened packet without its padding; `None` if the padding is longer
    /// than the payload or claims to be empty.
    pub fn payload_len(&self, packet: &[u8]) -> Option<usize> {
        let len = packet.len().checked_sub(self.payload_offset)?;
        if !self.padding {
            return Some(len);
        }
        let padding = usize::from(*packet.last()?);
        if padding == 0 { None } else { len.checked_sub(padding) }
    }
}

/// Turns an opened RTX packet into the packet it repeats (RFC 4588 §4), in place: the header moves two
/// bytes towards the payload, over the original sequence number. Returns where the packet now begins.
pub(crate) fn unwrap_rtx(packet: &mut [u8], header: &Header, payload_type: u8, ssrc: u32) -> Option<usize> {
    let &[s0, s1] = packet.get(header.payload_offset..)?.first_chunk()?;
    packet.copy_within(..header.payload_offset, 2);
    let restored = &mut packet[2..];
    restored[1] = (restored[1] & 0x80) | payload_type;
    restored[2..4].copy_from_slice(&[s0, s1]);
    restored[8..12].copy_from_slice(&ssrc.to_be_bytes());
    Some(2)
}
