//! The Data Channel Establishment Protocol (RFC 8832), as far as the end that does not open channels needs it.

/// The answer to an OPEN.
pub(super) const ACK: &[u8] = &[0x02];

const OPEN: u8 = 0x03;
const HEADER: usize = 12;
const UNORDERED: u8 = 0x80;

/// A channel that the peer has opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Open {
    /// Its messages come as they come.
    pub unordered: bool,
}

impl Open {
    /// `None` if the message is no well-formed OPEN.
    pub fn parse(message: &[u8]) -> Option<Self> {
        let header: &[u8; HEADER] = message.first_chunk()?;
        let length = |at: usize| usize::from(u16::from_be_bytes([header[at], header[at + 1]]));
        let is_whole = message.len() == HEADER + length(8) + length(10);
        (header[0] == OPEN && header[1] & !UNORDERED <= 2 && is_whole)
            .then_some(Self { unordered: header[1] & UNORDERED != 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_is_whole_or_none() {
        let mut open = vec![3, 0x81, 0, 0, 0, 0, 0, 5, 0, 4, 0, 1];
        open.extend_from_slice(b"chatx");
        assert_eq!(Open::parse(&open), Some(Open { unordered: true }));
        open[1] = 0;
        assert_eq!(Open::parse(&open), Some(Open { unordered: false }));
        assert_eq!(Open::parse(&open[..16]), None, "cut");
        open[1] = 3;
        assert_eq!(Open::parse(&open), None, "a type that does not exist");
        assert_eq!(Open::parse(ACK), None);
        assert_eq!(Open::parse(&[]), None);
    }
}
