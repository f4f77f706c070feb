//! An SCTP association with a peer that sends what it likes.

use std::time::Duration;

use bytes::BytesMut;

use crate::core::command::{Delivery, Reliability};
use crate::core::sctp::{MAX_HELD, Sctp};
use crate::core::testing::origin;

/// Each record is the chunks of a packet; its kind says how much time passes, and what is sent meanwhile.
pub(super) fn association(data: &[u8]) {
    let mut now = origin();
    let mut server = Sctp::new();
    server.bind(1, false);
    server.bind(2, true);
    let Some(tag) = establish(&mut server) else { panic!("an honest beginning was refused") };
    for (kind, chunks) in super::records(data) {
        let packet = packet(tag, chunks);
        let _ = server.receive(BytesMut::from(&packet[..]), now);
        while let Some(message) = server.poll_message() {
            let reliability = match kind & 3 {
                0 => Reliability::Reliable,
                1 => Reliability::Retransmits(1),
                _ => Reliability::Lifetime(300),
            };
            let delivery = Delivery { ordered: kind & 4 == 0, reliability };
            let _ = server.send(u16::from(kind >> 5), delivery, &message, now);
        }
        if kind & 16 != 0 {
            server.close_stream(u16::from(kind >> 5), now);
        }
        server.flush(now);
        now += Duration::from_millis(u64::from(kind) * 8);
        server.handle_timeout(now);
        while server.poll_transmit().is_some() {}
        assert!(server.held() <= MAX_HELD, "{} bytes are held", server.held());
    }
}

/// The handshake of a peer whose tag and first sequence number are 1; the server's tag.
fn establish(server: &mut Sctp) -> Option<u32> {
    let init = [1, 0, 0, 32, 0, 0, 0, 1, 0, 1, 0x86, 0xa0, 4, 0, 4, 0, 0, 0, 0, 1];
    let extensions = [0x80, 8, 0, 6, 130, 192, 0, 0, 0xc0, 0, 0, 4];
    let packet_of_init = packet(0, &[&init[..], &extensions].concat());
    server.receive(BytesMut::from(&packet_of_init[..]), origin()).ok()?;
    let answer = server.poll_transmit()?;
    let tag = u32::from_be_bytes(*answer.get(16..)?.first_chunk()?);
    let mut parameters = answer.get(32..)?;
    while let Some([kind_high, kind, high, low]) = parameters.first_chunk::<4>().copied() {
        let length = usize::from(u16::from_be_bytes([high, low]));
        if (kind_high, kind) == (0, 7) {
            let mut echo = vec![10, 0, high, low];
            echo.extend_from_slice(parameters.get(4..length)?);
            echo.resize(echo.len().next_multiple_of(4), 0);
            server.receive(BytesMut::from(&packet(tag, &echo)[..]), origin()).ok()?;
            return Some(tag);
        }
        parameters = parameters.get(length.next_multiple_of(4)..)?;
    }
    None
}

fn packet(tag: u32, chunks: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x13, 0x88, 0x13, 0x88];
    packet.extend_from_slice(&tag.to_be_bytes());
    packet.extend_from_slice(&[0; 4]);
    packet.extend_from_slice(chunks);
    let checksum = crc32c::crc32c(&packet);
    packet[8..12].copy_from_slice(&checksum.to_le_bytes());
    packet
}
