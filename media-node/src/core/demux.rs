//! Which protocol a datagram is, by its first byte (RFC 7983 §7, RFC 5761 §4).

/// Protocols that share a transport's port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Stun,
    Dtls,
    Rtp,
    Rtcp,
}

/// `None` for anything else (ZRTP, TURN channels, QUIC, noise).
pub(crate) fn classify(datagram: &[u8]) -> Option<Content> {
    match *datagram.first()? {
        0..=3 => Some(Content::Stun),
        20..=63 => Some(Content::Dtls),
        // RTCP packet types 192-223 cannot be RTP: payload types 64-95 are not used with rtcp-mux.
        128..=191 => match *datagram.get(1)? {
            192..=223 => Some(Content::Rtcp),
            _ => Some(Content::Rtp),
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_follow_rfc_7983() {
        for (bytes, expected) in [
            (&[0x00u8, 0x01][..], Some(Content::Stun)),
            (&[0x01, 0x01], Some(Content::Stun)),
            (&[22, 0xfe], Some(Content::Dtls)),
            (&[0x80, 96], Some(Content::Rtp)),
            (&[0x80, 96 | 0x80], Some(Content::Rtp)),
            (&[0x80, 111], Some(Content::Rtp)),
            (&[0x80, 200], Some(Content::Rtcp)),
            (&[0x81, 205], Some(Content::Rtcp)),
            (&[0x40, 0], None),
            (&[16], None),
            (&[0x80], None),
            (&[], None),
        ] {
            assert_eq!(classify(bytes), expected, "{bytes:?}");
        }
    }
}
