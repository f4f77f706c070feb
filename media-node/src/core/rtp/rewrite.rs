//! One received packet becomes one packet for one subscriber: a new header in front of the same payload.

use super::extensions::{Ids, Values, Writer, fits_one_byte};
use super::{FIXED_HEADER, Header};
use crate::core::command::ExtensionKind;

/// What differs between what came in and what goes out.
pub(crate) struct Rewrite<'a> {
    pub ids: &'a Ids,
    pub mid: &'a [u8],
    pub payload_type: u8,
    pub ssrc: u32,
    pub sequence: u16,
    pub timestamp: u32,
    /// Transport-wide sequence number of this transmission.
    pub transport_cc: u16,
    /// 24 bits, 6.18 fixed point seconds.
    pub abs_send_time: u32,
    /// For a retransmission: what goes in front of the payload.
    pub rtx: Option<Rtx>,
    /// The dependency descriptor, if the packet is to have one; no longer than
    /// [`Rewrite::MAX_DESCRIPTOR`].
    pub descriptor: Option<&'a [u8]>,
}

/// RFC 4588 §4.
#[derive(Clone, Copy)]
pub(crate) struct Rtx {
    /// Original sequence number.
    pub original: u16,
}

impl Rewrite<'_> {
    /// What the two-byte form can hold (RFC 8285 §4.3).
    pub const MAX_DESCRIPTOR: usize = 255;

    /// Appends header and payload to `out`; returns the length of the header. CSRCs and extensions that
    /// the subscriber has not negotiated are left out; padding stays part of the payload.
    pub fn write(&self, out: &mut Vec<u8>, header: &Header, values: &Values<'_>, payload: &[u8]) -> usize {
        let start = out.len();
        let one_byte = self.ids.iter().all(|e| {
            let len = match e.kind {
                ExtensionKind::Mid => self.mid.len(),
                ExtensionKind::DependencyDescriptor => self.descriptor.map_or(1, <[u8]>::len),
                _ => 1,
            };
            fits_one_byte(e.id, len)
        });
        out.extend_from_slice(&[
            0x80 | (u8::from(header.padding) << 5),
            (u8::from(header.marker) << 7) | self.payload_type,
        ]);
        out.extend_from_slice(&self.sequence.to_be_bytes());
        out.extend_from_slice(&self.timestamp.to_be_bytes());
        out.extend_from_slice(&self.ssrc.to_be_bytes());
        debug_assert_eq!(out.len(), start + FIXED_HEADER);

        let mut writer = Writer::new(out, one_byte);
        let mut any = false;
        for extension in self.ids.iter() {
            let (two, three);
            let value: &[u8] = match extension.kind {
                ExtensionKind::Mid => self.mid,
                ExtensionKind::TransportCc => {
                    two = self.transport_cc.to_be_bytes();
                    &two
                }
                ExtensionKind::AbsSendTime => {
                    three = self.abs_send_time.to_be_bytes();
                    &three[1..]
                }
                // The layers of the publisher are not the subscriber's business.
                ExtensionKind::Rid | ExtensionKind::RepairedRid => continue,
                ExtensionKind::DependencyDescriptor => match self.descriptor {
                    Some(descriptor) => descriptor,
                    None => continue,
                },
                kind @ (ExtensionKind::AudioLevel
                | ExtensionKind::VideoOrientation
                | ExtensionKind::TransmissionOffset
                | ExtensionKind::PlayoutDelay) => match values.get(kind) {
                    Some(value) => value,
                    None => continue,
                },
            };
            writer.put(extension.id, value);
            any = true;
        }
        if any {
            writer.finish();
            out[start] |= 0x10;
        } else {
            out.truncate(start + FIXED_HEADER);
        }
        let header_len = out.len() - start;
        if let Some(rtx) = self.rtx {
            out.extend_from_slice(&rtx.original.to_be_bytes());
        }
        out.extend_from_slice(payload);
        header_len
    }
}
