//! Key frames of VP8, and requests for them. The crate keeps all RTCP to itself but what an interceptor marks.

use std::{collections::VecDeque, time::Instant};

use bytes::Bytes;
use rtc::{
    interceptor::{Attribute, Interceptor, Packet, StreamInfo, TaggedPacket},
    rtcp::{
        self,
        payload_feedbacks::{full_intra_request::FullIntraRequest, picture_loss_indication::PictureLossIndication},
    },
    rtp::{codec::vp8::Vp8Packet, packetizer::Depacketizer},
    sansio::Protocol,
    shared::error::Error,
};

/// Whether it asks for a key frame.
pub fn is_request(packet: &dyn rtcp::Packet) -> bool {
    let packet = packet.as_any();
    packet.is::<PictureLossIndication>() || packet.is::<FullIntraRequest>()
}

/// The size of a VP8 key frame in pixels (RFC 6386 §9.1), if this payload begins one (RFC 7741 §4).
pub fn size_of(payload: &Bytes) -> Option<(u16, u16)> {
    let mut descriptor = Vp8Packet::default();
    let frame = descriptor.depacketize(payload).ok()?;
    let begins = descriptor.s == 1 && descriptor.pid == 0;
    let header: &[u8; 10] = frame.first_chunk()?;
    if !begins || header[0] & 1 != 0 || header[3..6] != [0x9d, 0x01, 0x2a] {
        return None;
    }
    let size = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]) & 0x3fff;
    Some((size(6), size(8)))
}

/// Lets the application have requests for key frames; the rest of RTCP is for the other interceptors.
#[derive(Default)]
pub struct KeyFrameRequests {
    // The chain takes from each what it has given to it, a packet at a time.
    arrived: VecDeque<TaggedPacket>,
    leaving: VecDeque<TaggedPacket>,
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for KeyFrameRequests {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, mut tagged: TaggedPacket) -> Result<(), Error> {
        if let Packet::Rtcp(packets) = &tagged.message.packet
            && packets.iter().any(|packet| is_request(packet.as_ref()))
        {
            tagged.message.add(Attribute::DeliverToApplication);
        }
        self.arrived.push_back(tagged);
        Ok(())
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.arrived.pop_front()
    }

    fn handle_write(&mut self, tagged: TaggedPacket) -> Result<(), Error> {
        self.leaving.push_back(tagged);
        Ok(())
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.leaving.pop_front()
    }
}

impl Interceptor for KeyFrameRequests {
    fn bind_local_stream(&mut self, _: &StreamInfo) {}
    fn unbind_local_stream(&mut self, _: &StreamInfo) {}
    fn bind_remote_stream(&mut self, _: &StreamInfo) {}
    fn unbind_remote_stream(&mut self, _: &StreamInfo) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Descriptor of a first packet without extensions, and the head of a key frame of 320x180.
    const KEY_FRAME: [u8; 11] = [0x10, 0x50, 0x42, 0x00, 0x9d, 0x01, 0x2a, 0x40, 0x01, 0xb4, 0x00];

    fn changed(at: usize, to: u8) -> Bytes {
        let mut payload = KEY_FRAME.to_vec();
        payload[at] = to;
        payload.into()
    }

    #[test]
    fn only_the_first_packet_of_a_key_frame_states_a_size() {
        assert_eq!(size_of(&Bytes::from_static(&KEY_FRAME)), Some((320, 180)));
        // A later packet of it, a frame between key frames, no start code, too short.
        for other in [changed(0, 0x00), changed(1, 0x51), changed(4, 0), Bytes::from_static(&KEY_FRAME[..9])] {
            assert_eq!(size_of(&other), None, "{other:?}");
        }
    }

    #[test]
    fn requests_for_key_frames_are_let_through_and_reports_are_not() {
        assert!(is_request(&PictureLossIndication { sender_ssrc: 1, media_ssrc: 2 }));
        assert!(is_request(&FullIntraRequest::default()));
        assert!(!is_request(&rtcp::receiver_report::ReceiverReport::default()));
    }
}
