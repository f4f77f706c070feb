//! What peers say of the paths to and from them: whatever it is, the estimates stay within their bounds.

use rtc::rtcp::receiver_report::ReceiverReport;
use rtc::rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack;
use rtc::shared::marshal::Unmarshal;

use super::records;
use crate::core::config::Bounds;
use crate::core::congestion::{Congestion, Receiving, parse_remb};

/// Records looked at in one input: more would only make it slow.
const MAX_RECORDS: usize = 256;
const BOUNDS: Bounds = Bounds { initial: 600_000.0, least: 50_000.0, most: 50e6 };

/// Reports of a subscriber on packets that were sent to it, and packets of a publisher with any send times.
pub(super) fn feedback(data: &[u8]) {
    let (mut congestion, mut receiving) = (Congestion::new(BOUNDS), Receiving::new(BOUNDS));
    congestion.expect_feedback();
    let mut now = 1_000_000;
    for (kind, content) in records(data).take(MAX_RECORDS) {
        let number = kind >> 3;
        match kind & 7 {
            0 => {
                now += u64::from(number) * 5_000;
                congestion.tick(now);
            }
            1 => {
                for _ in 0..=number {
                    congestion.stamped(1200, now);
                    congestion.left(1200, now);
                }
            }
            // On packets that were sent, or as it stands.
            2 | 3 => {
                let mut packet = content.to_vec();
                if kind & 1 == 0 && packet.len() >= 16 {
                    let count = u16::from_be_bytes([packet[14], packet[15]]);
                    let base = congestion.next_sequence().wrapping_sub(count);
                    packet[12..14].copy_from_slice(&base.to_be_bytes());
                }
                congestion.on_feedback(&packet, now);
            }
            4 => assert_eq!(congestion.on_remb(content, now), parse_remb(content).is_some()),
            5 => {
                for sent in content.chunks_exact(4) {
                    let &[wait, high, middle, low] = sent else { continue };
                    now += u64::from(wait) * 100;
                    let sent = (number & 1 == 0).then(|| u32::from_be_bytes([0, high, middle, low]));
                    receiving.arrived(sent, 1200, now);
                }
            }
            6 => receiving.lost(f64::from(number) / 31.0, now),
            _ => {
                if let Ok(report) = ReceiverReport::unmarshal(&mut &content[..]) {
                    assert!(report.reports.len() <= 31);
                }
                if let Ok(nack) = TransportLayerNack::unmarshal(&mut &content[..]) {
                    assert!(nack.nacks.len() <= content.len() / 4);
                }
            }
        }
        congestion.plan_probe(now);
        if let Some(available) = congestion.available(now) {
            assert!((BOUNDS.least..=BOUNDS.most).contains(&available), "{available}");
        }
        assert!(congestion.loss().is_none_or(|loss| (0.0..=1.0).contains(&loss)));
        let told = receiving.tell();
        assert!((BOUNDS.least..=BOUNDS.most).contains(&told), "{told}");
    }
}
