//! SRTP and SRTCP with contexts of our own: no state before authentication, no copy, no allocation per
//! packet.
//!
//! The state of a stream lives with whoever knows the stream (a producer's source, a consumer), not in a
//! table that strangers could fill.

mod cipher;
mod keys;
mod window;

#[cfg(test)]
mod tests;

use rtc::crypto::{CryptoError, RTCCrypto};

use super::stats::Drop;
use cipher::Cipher;
#[cfg(test)]
use keys::Master;

pub(crate) use keys::{EXPORTER_LABEL, KeyingMaterial};
pub(crate) use window::IndexWindow;

/// Protection profiles, in our order of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// RFC 7714.
    AeadAes128Gcm,
    /// RFC 3711; mandatory to implement (RFC 8827 §6.5).
    AesCm128HmacSha1_80,
}

impl Profile {
    fn salt_len(self) -> usize {
        match self {
            Self::AeadAes128Gcm => 12,
            Self::AesCm128HmacSha1_80 => 14,
        }
    }
}

/// Both directions of one DTLS-SRTP association.
pub(crate) struct Srtp {
    pub inbound: Inbound,
    pub outbound: Outbound,
}

impl Srtp {
    /// `is_client`: which side of the handshake we are.
    pub fn new(keys: &KeyingMaterial, is_client: bool, crypto: &dyn RTCCrypto) -> Result<Self, CryptoError> {
        let (ours, theirs) = if is_client { (&keys.client, &keys.server) } else { (&keys.server, &keys.client) };
        Ok(Self {
            inbound: Inbound { cipher: Cipher::new(keys.profile, theirs, crypto)?, senders: Vec::new() },
            outbound: Outbound { cipher: Cipher::new(keys.profile, ours, crypto)?, rtcp_index: 0 },
        })
    }
}

/// What comes from the client.
pub(crate) struct Inbound {
    cipher: Cipher,
    /// Replay windows of RTCP senders, by SSRC: few, so a list. Grows only after authentication.
    senders: Vec<(u32, IndexWindow)>,
}

impl Inbound {
    /// Opens an RTP packet in place. Returns its index and its length without the tag.
    ///
    /// # Errors
    ///
    /// Why the packet must be dropped; `window` is unchanged then, the packet after [`Drop::SrtpAuth`] may not be.
    pub fn open_rtp(
        &mut self,
        window: &mut IndexWindow,
        packet: &mut [u8],
        header: usize,
        ssrc: u32,
        sequence: u16,
    ) -> Result<(u64, usize), Drop> {
        let index = window.estimate(sequence).ok_or(Drop::SrtpTooOld)?;
        window.check(index)?;
        let len = self.open_rtp_at(window, packet, header, ssrc, index)?;
        Ok((index, len))
    }

    /// Opens an RTP packet of this index, which `window` does not refuse, in place. Returns its length without the tag.
    ///
    /// # Errors
    ///
    /// [`Drop::SrtpAuth`]; `window` is unchanged then, the packet may not be.
    pub fn open_rtp_at(
        &mut self,
        window: &mut IndexWindow,
        packet: &mut [u8],
        header: usize,
        ssrc: u32,
        index: u64,
    ) -> Result<usize, Drop> {
        let len = self.cipher.open_rtp(packet, header, ssrc, index).map_err(|_| Drop::SrtpAuth)?;
        window.accept(index);
        Ok(len)
    }

    /// Opens an RTCP compound in place. Returns its length without tag and trailer. Of more than
    /// `max_senders` the oldest that `is_source` does not know is forgotten.
    ///
    /// # Errors
    ///
    /// Why the compound must be dropped.
    pub fn open_rtcp(
        &mut self,
        packet: &mut [u8],
        max_senders: usize,
        is_source: impl Fn(u32) -> bool,
    ) -> Result<usize, Drop> {
        let (ssrc, index) = self.cipher.rtcp_index(packet).ok_or(Drop::MalformedRtcp)?;
        let known = self.senders.iter().position(|(s, _)| *s == ssrc);
        if let Some(at) = known {
            self.senders[at].1.check(u64::from(index)).map_err(|_| Drop::SrtcpReplay)?;
        }
        let len = self.cipher.open_rtcp(packet).map_err(|_| Drop::SrtcpAuth)?;
        let at = match known {
            Some(at) => at,
            None => {
                if self.senders.len() >= max_senders {
                    let idle = self.senders.iter().position(|(s, _)| !is_source(*s));
                    self.senders.remove(idle.ok_or(Drop::RtcpSenders)?);
                }
                self.senders.push((ssrc, IndexWindow::default()));
                self.senders.len() - 1
            }
        };
        self.senders[at].1.accept(u64::from(index));
        Ok(len)
    }
}

/// What goes to the client.
pub(crate) struct Outbound {
    cipher: Cipher,
    rtcp_index: u32,
}

impl Outbound {
    /// Room that [`Outbound::seal_rtp`] needs behind a packet.
    pub fn rtp_overhead(&self) -> usize {
        self.cipher.rtp_overhead()
    }

    /// Seals an RTP packet in place; `packet` ends with room for the tag.
    ///
    /// # Errors
    ///
    /// [`Drop::IndexReused`]: `used` has seen this index, sealing would reuse a nonce.
    pub fn seal_rtp(
        &mut self,
        used: &mut IndexWindow,
        packet: &mut [u8],
        header: usize,
        ssrc: u32,
        index: u64,
    ) -> Result<(), Drop> {
        if used.check(index).is_err() || index >= 1 << 48 {
            return Err(Drop::IndexReused);
        }
        self.cipher.seal_rtp(packet, header, ssrc, index).map_err(|_| Drop::SrtpAuth)?;
        used.accept(index);
        Ok(())
    }

    /// Seals an RTCP compound of at least eight bytes. One index serves all our SSRCs, so that no
    /// (SSRC, index) pair repeats.
    ///
    /// # Errors
    ///
    /// [`Drop::IndexReused`] after 2^31 compounds: the association has to end.
    pub fn seal_rtcp(&mut self, packet: &mut Vec<u8>) -> Result<(), Drop> {
        let ssrc = packet.get(4..8).and_then(|b| b.try_into().ok()).map(u32::from_be_bytes);
        let ssrc = ssrc.ok_or(Drop::MalformedRtcp)?;
        let index = self.rtcp_index + 1;
        if index >= 1 << 31 {
            return Err(Drop::IndexReused);
        }
        self.rtcp_index = index;
        self.cipher.seal_rtcp(packet, ssrc, index).map_err(|_| Drop::SrtcpAuth)
    }
}
