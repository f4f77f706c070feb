//! Receiver estimated maximum bitrate (draft-alvestrand-rmcat-remb-03): what subscribers without
//! transport-wide feedback say that they can take.

const FIXED: usize = 20;

/// Bits per second of a REMB packet (RTCP header included); `None` if it is none.
pub(crate) fn parse(packet: &[u8]) -> Option<u64> {
    let fixed: &[u8; FIXED] = packet.first_chunk()?;
    if &fixed[12..16] != b"REMB" || packet.len() < FIXED + 4 * usize::from(fixed[16]) {
        return None;
    }
    let exponent = u32::from(fixed[17] >> 2);
    let mantissa = u64::from(u32::from_be_bytes([0, fixed[17] & 3, fixed[18], fixed[19]]));
    // Eighteen bits shifted by up to 63: what overflows is more than any path carries.
    Some(if exponent > 45 && mantissa != 0 { u64::MAX } else { mantissa << exponent })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rtc::rtcp::payload_feedbacks::receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate;
    use rtc::shared::marshal::Marshal;

    proptest! {
        #[test]
        fn what_another_implementation_writes_is_read(kbits in 1u32..100_000_000, ssrcs in prop::collection::vec(any::<u32>(), 0..5)) {
            let bitrate = kbits as f32 * 1000.0;
            let bytes = ReceiverEstimatedMaximumBitrate { sender_ssrc: 1, bitrate, ssrcs }.marshal().unwrap();
            let read = parse(&bytes).unwrap() as f64;
            prop_assert!((read / f64::from(bitrate) - 1.0).abs() < 0.001, "{} {}", read, bitrate);
        }

        #[test]
        fn noise_never_panics(mut bytes in prop::collection::vec(any::<u8>(), 0..40), named: bool) {
            if named && bytes.len() >= 16 {
                bytes[12..16].copy_from_slice(b"REMB");
            }
            let _ = parse(&bytes);
        }
    }
}
