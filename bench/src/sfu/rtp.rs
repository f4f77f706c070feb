//! The packets of the load: what is in them, and reading them back.

/// Payload type of Opus at publishers.
pub const OPUS: u8 = 111;
/// Payload type of VP8 at publishers.
pub const VP8: u8 = 96;
/// Payload type of VP8's repairs at publishers.
pub const RTX: u8 = 97;
/// Header extension ids of publishers, by URI.
pub const EXTENSIONS: [(&str, u8); 4] = [
    ("urn:ietf:params:rtp-hdrext:ssrc-audio-level", 1),
    ("http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time", 2),
    (TRANSPORT_CC_URI, 3),
    ("urn:ietf:params:rtp-hdrext:sdes:mid", 4),
];
/// What a subscriber asks the id of.
pub const TRANSPORT_CC_URI: &str = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
/// Bytes of the stamp at the end of each payload.
pub const STAMP: usize = 16;
const MAGIC: u32 = 0xca11_b14e;

/// Who sent a payload, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Number of the track in the load.
    pub track: u32,
    /// Wall-clock time, in nanoseconds.
    pub at: u64,
}

impl Stamp {
    /// Writes it at the end of `payload`.
    pub fn write(self, payload: &mut [u8]) {
        let at = payload.len() - STAMP;
        payload[at..at + 4].copy_from_slice(&MAGIC.to_be_bytes());
        payload[at + 4..at + 8].copy_from_slice(&self.track.to_be_bytes());
        payload[at + 8..].copy_from_slice(&self.at.to_be_bytes());
    }

    /// Reads it from the end of a payload without padding.
    pub fn read(payload: &[u8]) -> Option<Self> {
        let stamp = payload.last_chunk::<STAMP>()?;
        let word = |at: usize| u32::from_be_bytes(std::array::from_fn(|i| stamp[at + i]));
        let at = u64::from_be_bytes(std::array::from_fn(|i| stamp[8 + i]));
        (word(0) == MAGIC).then_some(Self { track: word(4), at })
    }
}

/// What the generator looks at in a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Payload type.
    pub payload_type: u8,
    /// Sequence number.
    pub sequence: u16,
    /// Source.
    pub ssrc: u32,
    /// Where the payload begins.
    pub payload: usize,
    /// The payload ends with padding.
    pub padded: bool,
    /// Transport-wide sequence number.
    pub transport_cc: Option<u16>,
}

impl Header {
    /// Reads a header whose transport-cc extension has the id `transport_cc`, 0 for none.
    pub fn parse(packet: &[u8], transport_cc: u8) -> Option<Self> {
        let fixed = packet.first_chunk::<12>()?;
        let mut payload = 12 + 4 * usize::from(fixed[0] & 15);
        let mut sequence = None;
        if fixed[0] & 0x10 != 0 {
            let head = packet.get(payload..payload + 4)?;
            let end = payload + 4 + 4 * usize::from(u16::from_be_bytes([head[2], head[3]]));
            let block = packet.get(payload + 4..end)?;
            if transport_cc != 0 {
                sequence = find(block, head[0] == 0xbe && head[1] == 0xde, transport_cc);
            }
            payload = end;
        }
        (fixed[0] >> 6 == 2).then_some(Self {
            payload_type: fixed[1] & 127,
            sequence: u16::from_be_bytes([fixed[2], fixed[3]]),
            ssrc: u32::from_be_bytes([fixed[8], fixed[9], fixed[10], fixed[11]]),
            payload,
            padded: fixed[0] & 0x20 != 0,
            transport_cc: sequence,
        })
    }
}

/// A two-byte value among header extensions (RFC 8285).
fn find(block: &[u8], one_byte: bool, wanted: u8) -> Option<u16> {
    let mut at = 0;
    while let Some(&head) = block.get(at) {
        let (id, len, skip) = match (head, one_byte) {
            (0, _) => (0, 0, 1),
            (head, true) => (head >> 4, usize::from(head & 15) + 1, 1),
            (head, false) => (head, usize::from(*block.get(at + 1)?), 2),
        };
        if id == wanted && len >= 2 {
            let value = block.get(at + skip..at + skip + 2)?;
            return Some(u16::from_be_bytes([value[0], value[1]]));
        }
        at += skip + len;
    }
    None
}

/// A publisher's packet, up to its payload.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// Payload type.
    pub payload_type: u8,
    /// Last packet of a picture.
    pub marker: bool,
    /// Sequence number.
    pub sequence: u16,
    /// Media time.
    pub timestamp: u32,
    /// Source.
    pub ssrc: u32,
    /// Media section.
    pub mid: &'a str,
    /// Transport-wide sequence number.
    pub transport_cc: u16,
    /// 24 bits of 6.18 fixed point seconds.
    pub abs_send_time: u32,
    /// Audio level in -dBov, for sound.
    pub level: Option<u8>,
}

impl Outgoing<'_> {
    /// Appends the header; returns its length.
    pub fn write(&self, out: &mut Vec<u8>) -> usize {
        let start = out.len();
        out.extend_from_slice(&[0x90, (u8::from(self.marker) << 7) | self.payload_type]);
        out.extend_from_slice(&self.sequence.to_be_bytes());
        out.extend_from_slice(&self.timestamp.to_be_bytes());
        out.extend_from_slice(&self.ssrc.to_be_bytes());
        out.extend_from_slice(&[0xbe, 0xde, 0, 0]);
        let block = out.len();
        out.push((2 << 4) | 2);
        out.extend_from_slice(&self.abs_send_time.to_be_bytes()[1..]);
        out.push((3 << 4) | 1);
        out.extend_from_slice(&self.transport_cc.to_be_bytes());
        out.push((4 << 4) | (self.mid.len() as u8 - 1));
        out.extend_from_slice(self.mid.as_bytes());
        if let Some(level) = self.level {
            // The first bit: this is speech.
            out.extend_from_slice(&[1 << 4, if level < 127 { 0x80 | level } else { level }]);
        }
        out.resize(block + (out.len() - block).div_ceil(4) * 4, 0);
        out[block - 1] = ((out.len() - block) / 4) as u8;
        out.len() - start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let outgoing = Outgoing {
            payload_type: VP8,
            marker: true,
            sequence: 7,
            timestamp: 8,
            ssrc: 9,
            mid: "v",
            transport_cc: 0x1234,
            abs_send_time: 1,
            level: None,
        };
        let mut packet = Vec::new();
        let payload = outgoing.write(&mut packet);
        packet.resize(payload + 40, 1);
        let stamp = Stamp { track: 3, at: 99 };
        stamp.write(&mut packet);
        let header = Header::parse(&packet, 3).unwrap();
        assert_eq!((header.payload_type, header.sequence, header.ssrc, header.payload), (VP8, 7, 9, payload));
        assert_eq!(header.transport_cc, Some(0x1234));
        assert_eq!(Header::parse(&packet, 0).unwrap().transport_cc, None);
        assert_eq!(Stamp::read(&packet), Some(stamp));
        assert_eq!(Stamp::read(&packet[..packet.len() - 1]), None);
        assert_eq!(Header::parse(&packet[..14], 3), None);
    }
}
