//! One direction of SRTP and SRTCP, sealing and opening in the caller's buffer.
//!
//! AEAD_AES_128_GCM (RFC 7714) is what browsers get; AES_CM_128_HMAC_SHA1_80 (RFC 3711) is for those
//! that know nothing else.

use rtc::crypto::{
    AeadAlgorithm, AeadCipher, CryptoError, HmacAlgorithm, Mac, RTCCrypto, StreamCipher, StreamCipherAlgorithm,
    constant_time_eq,
};

use super::Profile;
use super::keys::{Label, Master, derive};

const GCM_TAG: usize = 16;
const SHA1_TAG: usize = 10;
/// The E flag and the index at the end of an SRTCP packet.
const RTCP_TRAILER: usize = 4;
/// Header and sender SSRC of an RTCP packet stay in the clear.
const RTCP_CLEAR: usize = 8;
const ENCRYPTED: u32 = 1 << 31;

pub(super) enum Cipher {
    Gcm {
        rtp: Box<dyn AeadCipher>,
        rtcp: Box<dyn AeadCipher>,
        rtp_salt: [u8; 12],
        rtcp_salt: [u8; 12],
    },
    Cm {
        rtp: Box<dyn StreamCipher>,
        rtcp: Box<dyn StreamCipher>,
        rtp_mac: Box<dyn Mac>,
        rtcp_mac: Box<dyn Mac>,
        rtp_salt: [u8; 14],
        rtcp_salt: [u8; 14],
    },
}

impl Cipher {
    pub fn new(profile: Profile, master: &Master, crypto: &dyn RTCCrypto) -> Result<Self, CryptoError> {
        let key = |label| {
            let mut key = [0u8; 16];
            derive(crypto, master, label, &mut key).map(|()| key)
        };
        match profile {
            Profile::AeadAes128Gcm => {
                let (mut rtp_salt, mut rtcp_salt) = ([0; 12], [0; 12]);
                derive(crypto, master, Label::RtpSalt, &mut rtp_salt)?;
                derive(crypto, master, Label::RtcpSalt, &mut rtcp_salt)?;
                Self::gcm(crypto, (&key(Label::RtpKey)?, rtp_salt), (&key(Label::RtcpKey)?, rtcp_salt))
            }
            Profile::AesCm128HmacSha1_80 => {
                let (mut rtp_salt, mut rtcp_salt) = ([0; 14], [0; 14]);
                derive(crypto, master, Label::RtpSalt, &mut rtp_salt)?;
                derive(crypto, master, Label::RtcpSalt, &mut rtcp_salt)?;
                let (mut rtp_auth, mut rtcp_auth) = ([0; 20], [0; 20]);
                derive(crypto, master, Label::RtpAuth, &mut rtp_auth)?;
                derive(crypto, master, Label::RtcpAuth, &mut rtcp_auth)?;
                let rtp = (&key(Label::RtpKey)?, &rtp_auth, rtp_salt);
                Self::cm(crypto, rtp, (&key(Label::RtcpKey)?, &rtcp_auth, rtcp_salt))
            }
        }
    }

    pub(super) fn gcm(
        crypto: &dyn RTCCrypto,
        (rtp_key, rtp_salt): (&[u8; 16], [u8; 12]),
        (rtcp_key, rtcp_salt): (&[u8; 16], [u8; 12]),
    ) -> Result<Self, CryptoError> {
        Ok(Self::Gcm {
            rtp: crypto.new_aead(AeadAlgorithm::Aes128Gcm, rtp_key)?,
            rtcp: crypto.new_aead(AeadAlgorithm::Aes128Gcm, rtcp_key)?,
            rtp_salt,
            rtcp_salt,
        })
    }

    /// From session keys: of encryption, of authentication, and the salt.
    pub(super) fn cm(
        crypto: &dyn RTCCrypto,
        (rtp_key, rtp_auth, rtp_salt): (&[u8; 16], &[u8; 20], [u8; 14]),
        (rtcp_key, rtcp_auth, rtcp_salt): (&[u8; 16], &[u8; 20], [u8; 14]),
    ) -> Result<Self, CryptoError> {
        Ok(Self::Cm {
            rtp: crypto.new_stream_cipher(StreamCipherAlgorithm::Aes128Ctr, rtp_key)?,
            rtcp: crypto.new_stream_cipher(StreamCipherAlgorithm::Aes128Ctr, rtcp_key)?,
            rtp_mac: crypto.new_hmac(HmacAlgorithm::Sha1, rtp_auth)?,
            rtcp_mac: crypto.new_hmac(HmacAlgorithm::Sha1, rtcp_auth)?,
            rtp_salt,
            rtcp_salt,
        })
    }

    pub fn rtp_overhead(&self) -> usize {
        match self {
            Self::Gcm { .. } => GCM_TAG,
            Self::Cm { .. } => SHA1_TAG,
        }
    }

    /// `packet` ends with [`Cipher::rtp_overhead`] bytes of room for the tag.
    pub fn seal_rtp(&mut self, packet: &mut [u8], header: usize, ssrc: u32, index: u64) -> Result<(), CryptoError> {
        let (body, tag) = packet.split_at_mut(packet.len() - self.rtp_overhead());
        match self {
            Self::Gcm { rtp, rtp_salt, .. } => {
                let (aad, plain) = body.split_at_mut(header);
                rtp.seal_in_place(&gcm_nonce(rtp_salt, ssrc, index), aad, plain, tag)
            }
            Self::Cm { rtp, rtp_mac, rtp_salt, .. } => {
                rtp.apply_keystream(&cm_counter(rtp_salt, ssrc, index), &mut body[header..])?;
                let mut full = [0; 20];
                rtp_mac.sign(&[body, &((index >> 16) as u32).to_be_bytes()], &mut full)?;
                tag.copy_from_slice(&full[..SHA1_TAG]);
                Ok(())
            }
        }
    }

    /// Returns the length of the packet without its tag.
    pub fn open_rtp(&mut self, packet: &mut [u8], header: usize, ssrc: u32, index: u64) -> Result<usize, CryptoError> {
        let end = packet.len().checked_sub(self.rtp_overhead()).filter(|end| *end >= header);
        let end = end.ok_or(CryptoError::AuthenticationFailed)?;
        let (body, tag) = packet.split_at_mut(end);
        match self {
            Self::Gcm { rtp, rtp_salt, .. } => {
                let (aad, cipher) = body.split_at_mut(header);
                rtp.open_in_place(&gcm_nonce(rtp_salt, ssrc, index), aad, cipher, tag)?;
            }
            Self::Cm { rtp, rtp_mac, rtp_salt, .. } => {
                let mut full = [0; 20];
                rtp_mac.sign(&[body, &((index >> 16) as u32).to_be_bytes()], &mut full)?;
                if !constant_time_eq(&full[..SHA1_TAG], tag) {
                    return Err(CryptoError::AuthenticationFailed);
                }
                rtp.apply_keystream(&cm_counter(rtp_salt, ssrc, index), &mut body[header..])?;
            }
        }
        Ok(end)
    }

    /// Appends tag and trailer to a compound of at least eight bytes.
    pub fn seal_rtcp(&mut self, packet: &mut Vec<u8>, ssrc: u32, index: u32) -> Result<(), CryptoError> {
        let trailer = (ENCRYPTED | index).to_be_bytes();
        match self {
            Self::Gcm { rtcp, rtcp_salt, .. } => {
                let mut tag = [0; GCM_TAG];
                let (clear, body) = packet.split_at_mut(RTCP_CLEAR);
                let nonce = gcm_nonce(rtcp_salt, ssrc, u64::from(index));
                rtcp.seal_in_place(&nonce, &rtcp_aad(clear, trailer), body, &mut tag)?;
                packet.extend_from_slice(&tag);
                packet.extend_from_slice(&trailer);
            }
            Self::Cm { rtcp, rtcp_mac, rtcp_salt, .. } => {
                let counter = cm_counter(rtcp_salt, ssrc, u64::from(index));
                rtcp.apply_keystream(&counter, &mut packet[RTCP_CLEAR..])?;
                packet.extend_from_slice(&trailer);
                let mut full = [0; 20];
                rtcp_mac.sign(&[packet], &mut full)?;
                packet.extend_from_slice(&full[..SHA1_TAG]);
            }
        }
        Ok(())
    }

    /// Sender SSRC and index of a protected compound, unauthenticated; `None` if it is too short.
    pub fn rtcp_index(&self, packet: &[u8]) -> Option<(u32, u32)> {
        let after_trailer = match self {
            Self::Gcm { .. } => 0,
            Self::Cm { .. } => SHA1_TAG,
        };
        let tag = self.rtp_overhead();
        if packet.len() < RTCP_CLEAR + tag + RTCP_TRAILER {
            return None;
        }
        let end = packet.len() - after_trailer;
        let word = |at: usize| packet[at..at + 4].try_into().map(u32::from_be_bytes).ok();
        Some((word(4)?, word(end - RTCP_TRAILER)? & !ENCRYPTED))
    }

    /// Returns the length of the plain compound. A compound that is authenticated but not encrypted
    /// (RFC 3711 §3.4 allows it, WebRTC does not) is refused.
    pub fn open_rtcp(&mut self, packet: &mut [u8]) -> Result<usize, CryptoError> {
        let (ssrc, index) = self.rtcp_index(packet).ok_or(CryptoError::AuthenticationFailed)?;
        let trailer = (ENCRYPTED | index).to_be_bytes();
        match self {
            Self::Gcm { rtcp, rtcp_salt, .. } => {
                let end = packet.len() - RTCP_TRAILER - GCM_TAG;
                let (body, rest) = packet.split_at_mut(end);
                let (clear, cipher) = body.split_at_mut(RTCP_CLEAR);
                if rest[GCM_TAG..] != trailer {
                    return Err(CryptoError::AuthenticationFailed);
                }
                let nonce = gcm_nonce(rtcp_salt, ssrc, u64::from(index));
                rtcp.open_in_place(&nonce, &rtcp_aad(clear, trailer), cipher, &rest[..GCM_TAG])?;
                Ok(end)
            }
            Self::Cm { rtcp, rtcp_mac, rtcp_salt, .. } => {
                let (signed, tag) = packet.split_at_mut(packet.len() - SHA1_TAG);
                let mut full = [0; 20];
                rtcp_mac.sign(&[signed], &mut full)?;
                let end = signed.len() - RTCP_TRAILER;
                if !constant_time_eq(&full[..SHA1_TAG], tag) || signed[end..] != trailer {
                    return Err(CryptoError::AuthenticationFailed);
                }
                let counter = cm_counter(rtcp_salt, ssrc, u64::from(index));
                rtcp.apply_keystream(&counter, &mut signed[RTCP_CLEAR..end])?;
                Ok(end)
            }
        }
    }
}

/// RFC 7714 §8.1 and §9.1: both formats are two zero bytes, the SSRC and 48 bits of index.
fn gcm_nonce(salt: &[u8; 12], ssrc: u32, index: u64) -> [u8; 12] {
    let mut nonce = *salt;
    for (n, b) in nonce[2..6].iter_mut().zip(ssrc.to_be_bytes()) {
        *n ^= b;
    }
    for (n, b) in nonce[6..].iter_mut().zip(&index.to_be_bytes()[2..]) {
        *n ^= b;
    }
    nonce
}

/// RFC 3711 §4.1.1.
fn cm_counter(salt: &[u8; 14], ssrc: u32, index: u64) -> [u8; 16] {
    let mut counter = [0; 16];
    counter[..14].copy_from_slice(salt);
    for (c, b) in counter[4..8].iter_mut().zip(ssrc.to_be_bytes()) {
        *c ^= b;
    }
    for (c, b) in counter[8..14].iter_mut().zip(&index.to_be_bytes()[2..]) {
        *c ^= b;
    }
    counter
}

/// RFC 7714 §9.2.
fn rtcp_aad(clear: &[u8], trailer: [u8; 4]) -> [u8; RTCP_CLEAR + RTCP_TRAILER] {
    let mut aad = [0; RTCP_CLEAR + RTCP_TRAILER];
    aad[..RTCP_CLEAR].copy_from_slice(clear);
    aad[RTCP_CLEAR..].copy_from_slice(&trailer);
    aad
}
