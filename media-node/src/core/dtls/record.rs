//! A look at the records of a datagram before the handshake sees them (RFC 6347 §4.1): what is not well
//! formed must not be able to end a handshake.

const HEADER: usize = 13;
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
    /// `None` if the datagram is not a sequence of whole DTLS records.
    pub fn of(datagram: &[u8]) -> Option<Self> {
        let mut contents = Self::default();
        let mut rest = datagram;
        if rest.is_empty() {
            return None;
        }
        while let Some(&kind) = rest.first() {
            let header: &[u8; HEADER] = rest.first_chunk()?;
            let len = usize::from(u16::from_be_bytes([header[11], header[12]]));
            let body = rest.get(HEADER..HEADER + len)?;
            let epoch = u16::from_be_bytes([header[3], header[4]]);
            if header[1] != 0xfe || len == 0 {
                return None;
            }
            contents.keyed |= epoch > 0 || kind == CHANGE_CIPHER_SPEC;
            match kind {
                CHANGE_CIPHER_SPEC => {}
                ALERT => contents.alert = true,
                HANDSHAKE => {
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn whole_records_pass_and_cut_ones_do_not() {
        let mut hello = vec![22, 0xfe, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 1, 0, 0, 1];
        let contents = Contents::of(&hello).unwrap();
        assert!(contents.handshake && contents.client_hello && !contents.alert);
        assert_eq!(Contents::of(&hello[..hello.len() - 1]), None);
        hello.push(0);
        assert_eq!(Contents::of(&hello), None, "trailing bytes");
        assert_eq!(Contents::of(&[22, 3, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]), None, "TLS over TCP");
        assert_eq!(Contents::of(&[]), None);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = Contents::of(&bytes);
        }
    }
}
