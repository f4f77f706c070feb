//! Packets without content, to probe with.

use super::{Consumer, Stamps};
use crate::core::rtp::{Extensions, Header, Rewrite, Values};
use crate::core::srtp::Outbound;
use crate::core::stats::Drop;

/// The most that one packet can hold (RFC 3550 §5.1: one byte says how much it is).
const PADDING: [u8; 255] = {
    let mut padding = [0; 255];
    padding[254] = 255;
    padding
};

impl Consumer {
    /// Appends an RTX packet that repeats nothing. Browsers send such packets themselves; whoever gets one
    /// reports its arrival and looks no further. Returns how long it is without its protection.
    ///
    /// # Errors
    /// [`Drop::NackMiss`] if the subscriber takes no RTX, [`Drop::IndexReused`].
    pub fn seal_padding(&mut self, stamps: Stamps, outbound: &mut Outbound, out: &mut Vec<u8>) -> Result<usize, Drop> {
        let (ssrc, payload_type) = self.rtx.ok_or(Drop::NackMiss)?;
        let (start, index) = (out.len(), self.rtx_next);
        self.rtx_next += 1;
        let timestamp = self.last.map_or(0, |last| last.timestamp);
        let sequence = index as u16;
        let header = Header {
            padding: true,
            marker: false,
            payload_type,
            sequence,
            timestamp,
            ssrc,
            extensions: Extensions::default(),
            payload_offset: 0,
        };
        let rewrite = Rewrite {
            ids: &self.ids,
            mid: &self.mid,
            payload_type,
            ssrc,
            sequence,
            timestamp,
            transport_cc: stamps.transport_cc,
            abs_send_time: stamps.abs_send_time,
            rtx: None,
            descriptor: None,
        };
        let header = rewrite.write(out, &header, &Values::default(), &PADDING);
        let len = out.len() - start;
        out.resize(out.len() + outbound.rtp_overhead(), 0);
        outbound.seal_rtp(&mut self.rtx_used, &mut out[start..], header, ssrc, index)?;
        Ok(len)
    }
}
