//! A look at the records of a datagram before the handshake sees them (RFC 6347 §4.1): what is not well
//! formed must not be able to end a handshake, and what is in too many pieces not to cost more than one.
//!
//! The endpoint puts messages together by recursion over everything it was given, and takes a length in a
//! header at its word: it gets few pieces, and only such as lie within their message.

const HEADER: usize = 13;
/// The longest flight has five messages and a ChangeCipherSpec.
const MAX_RECORDS: usize = 8;
const HANDSHAKE_HEADER: usize = 12;
/// Messages, or pieces of some, in one datagram.
const MAX_FRAGMENTS: usize = 8;
/// A chain of certificates is the longest message.
const MAX_MESSAGE: u32 = 16 * 1024;
/// Finished is the only message that is sent encrypted: 24 bytes, and up to 24 of nonce and tag.
const MAX_ENCRYPTED: usize = 64;
const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
const CLIENT_HELLO: u8 = 1;

/// What a datagram carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Contents {
    pub handshake: bool,
    pub client_hello: bool,
    pub application_data: bool,
    pub alert: bool,
    /// The sender has its keys: ChangeCipherSpec, or something encrypted.
    pub keyed: bool,
}

impl Contents {
    /// `None` if the datagram is not a sequence of a few whole DTLS records.
    pub fn of(datagram: &[u8]) -> Option<Self> {
        let mut contents = Self::default();
        let mut rest = datagram;
        let (mut records, mut fragments) = (0, 0);
        if rest.is_empty() {
            return None;
        }
        while let Some(&kind) = rest.first() {
            let header: &[u8; HEADER] = rest.first_chunk()?;
            let len = usize::from(u16::from_be_bytes([header[11], header[12]]));
            let body = rest.get(HEADER..HEADER + len)?;
            let epoch = u16::from_be_bytes([header[3], header[4]]);
            records += 1;
            if header[1] != 0xfe || len == 0 || records > MAX_RECORDS {
                return None;
            }
            contents.keyed |= epoch > 0 || kind == CHANGE_CIPHER_SPEC;
            match kind {
                CHANGE_CIPHER_SPEC => {}
                ALERT => contents.alert = true,
                HANDSHAKE => {
                    fragments += if epoch == 0 { count_fragments(body)? } else { 1 };
                    if fragments > MAX_FRAGMENTS || (epoch > 0 && len > MAX_ENCRYPTED) {
                        return None;
                    }
                    contents.handshake = true;
                    contents.client_hello |= epoch == 0 && body[0] == CLIENT_HELLO;
                }
                APPLICATION_DATA => contents.application_data = true,
                _ => return None,
            }
            rest = &rest[HEADER + len..];
        }
        Some(contents)
    }

    /// Nothing but alerts that nothing authenticates.
    pub fn is_plain_alert(self) -> bool {
        self == Self { alert: true, ..Self::default() }
    }
}

/// How many messages, or pieces of some, a plain handshake record has; `None` if one of them is not what
/// its header says (RFC 6347 §4.2.2).
fn count_fragments(mut body: &[u8]) -> Option<usize> {
    let mut count = 0;
    while !body.is_empty() {
        let header: &[u8; HANDSHAKE_HEADER] = body.first_chunk()?;
        let number = |at: usize| u32::from_be_bytes([0, header[at], header[at + 1], header[at + 2]]);
        let (message, offset, len) = (number(1), number(6), number(9));
        if message > MAX_MESSAGE || offset + len > message || (len == 0 && message > 0) {
            return None;
        }
        body = body.get(HANDSHAKE_HEADER + len as usize..)?;
        // The endpoint would take what follows a piece for more of it.
        if len < message && !body.is_empty() {
            return None;
        }
        count += 1;
    }
    Some(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A handshake message, or what claims to be a piece of one.
    fn piece(message: u32, offset: u32, len: u32, body: usize) -> Vec<u8> {
        let mut piece = vec![1];
        piece.extend_from_slice(&message.to_be_bytes()[1..]);
        piece.extend_from_slice(&[0, 0]);
        piece.extend_from_slice(&offset.to_be_bytes()[1..]);
        piece.extend_from_slice(&len.to_be_bytes()[1..]);
        piece.resize(piece.len() + body, 0xaa);
        piece
    }

    fn record(epoch: u8, body: &[u8]) -> Vec<u8> {
        let mut record = vec![22, 0xfe, 0xfd, 0, epoch, 0, 0, 0, 0, 0, 0];
        record.extend_from_slice(&(body.len() as u16).to_be_bytes());
        record.extend_from_slice(body);
        record
    }

    #[test]
    fn whole_records_pass_and_cut_ones_do_not() {
        let mut hello = record(0, &piece(4, 0, 4, 4));
        let contents = Contents::of(&hello).unwrap();
        assert!(contents.handshake && contents.client_hello && !contents.alert);
        assert_eq!(Contents::of(&hello[..hello.len() - 1]), None);
        hello.push(0);
        assert_eq!(Contents::of(&hello), None, "trailing bytes");
        assert_eq!(Contents::of(&[22, 3, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]), None, "TLS over TCP");
        assert_eq!(Contents::of(&[]), None);
    }

    #[test]
    fn pieces_lie_within_their_message() {
        let passes = |body: &[u8]| Contents::of(&record(0, body)).is_some();
        assert!(passes(&piece(0, 0, 0, 0)), "ServerHelloDone");
        assert!(passes(&piece(100, 90, 10, 10)));
        assert!(passes(&[piece(4, 0, 4, 4), piece(100, 0, 10, 10)].concat()));
        assert!(!passes(&piece(100, 91, 10, 10)), "beyond the end");
        assert!(!passes(&piece(100, 0, 0, 0)), "nothing of something");
        assert!(!passes(&piece(100, 0, 100, 99)), "cut");
        assert!(!passes(&piece(16 * 1024 + 1, 0, 10, 10)), "too long");
        assert!(!passes(&[piece(100, 0, 10, 10), piece(4, 0, 4, 4)].concat()), "a piece in the middle");
    }

    #[test]
    fn a_datagram_has_few_records_and_pieces() {
        let tiny = record(0, &piece(100, 1, 1, 1));
        assert!(Contents::of(&tiny.repeat(8)).is_some());
        assert_eq!(Contents::of(&tiny.repeat(9)), None);
        let whole = piece(0, 0, 0, 0);
        assert!(Contents::of(&record(0, &whole.repeat(8))).is_some());
        assert_eq!(Contents::of(&record(0, &whole.repeat(9))), None);
        assert!(Contents::of(&record(1, &[0; 48])).is_some(), "Finished");
        assert_eq!(Contents::of(&record(1, &[0; 65])), None, "pieces that cannot be counted");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = Contents::of(&bytes);
        }
    }
}
