//! SRTP and SRTCP of a client: AEAD_AES_128_GCM (RFC 7714), in place. Written apart from the media node's
//! own, so that a mistake in one of them is seen.

use anyhow::{Context, Result, anyhow, ensure};
use rtc::crypto::{AeadAlgorithm, AeadCipher, BlockCipherAlgorithm, CryptoError, RTCCrypto};

/// Bytes of the authentication tag.
pub const TAG: usize = 16;
/// Bytes of keying material that DTLS exports: two keys of 16, two salts of 12.
pub const KEYING: usize = 56;
/// Exporter label of DTLS-SRTP (RFC 5764 §4.2).
pub const EXPORTER_LABEL: &str = "EXTRACTOR-dtls_srtp";
const ENCRYPTED: u32 = 1 << 31;

/// One direction.
struct Direction {
    rtp: Box<dyn AeadCipher>,
    rtcp: Box<dyn AeadCipher>,
    rtp_salt: [u8; 12],
    rtcp_salt: [u8; 12],
}

/// Both directions of a client that was the DTLS client.
pub struct Srtp {
    out: Direction,
    into: Direction,
    rtcp_index: u32,
}

/// AES-CM key derivation with a rate of zero (RFC 3711 §4.3, RFC 7714 §11).
fn derive(crypto: &dyn RTCCrypto, key: &[u8], salt: &[u8], label: u8) -> Result<[u8; 16], CryptoError> {
    let mut block = [0; 16];
    block[..12].copy_from_slice(salt);
    block[7] ^= label;
    crypto.block_encrypt(BlockCipherAlgorithm::Aes128, key, &mut block)?;
    Ok(block)
}

impl Direction {
    fn new(crypto: &dyn RTCCrypto, key: &[u8], salt: &[u8]) -> Result<Self, CryptoError> {
        let derive = |label| derive(crypto, key, salt, label);
        let short = |block: [u8; 16]| std::array::from_fn(|i| block[i]);
        Ok(Self {
            rtp: crypto.new_aead(AeadAlgorithm::Aes128Gcm, &derive(0)?)?,
            rtp_salt: short(derive(2)?),
            rtcp: crypto.new_aead(AeadAlgorithm::Aes128Gcm, &derive(3)?)?,
            rtcp_salt: short(derive(5)?),
        })
    }
}

fn nonce(salt: &[u8; 12], ssrc: u32, index: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[2..6].copy_from_slice(&ssrc.to_be_bytes());
    nonce[6..].copy_from_slice(&index.to_be_bytes()[2..]);
    std::array::from_fn(|i| nonce[i] ^ salt[i])
}

impl Srtp {
    /// From what DTLS exported.
    ///
    /// # Errors
    /// When it is not [`KEYING`] bytes, or the library refuses a key.
    pub fn new(exported: &[u8], crypto: &dyn RTCCrypto) -> Result<Self> {
        ensure!(exported.len() == KEYING, "{} bytes of keying material", exported.len());
        let direction =
            |key, salt| Direction::new(crypto, key, salt).map_err(|error| anyhow!("deriving SRTP keys: {error}"));
        Ok(Self {
            out: direction(&exported[..16], &exported[32..44])?,
            into: direction(&exported[16..32], &exported[44..])?,
            rtcp_index: 0,
        })
    }

    /// Seals an RTP packet whose payload begins at `header`, appending the tag.
    ///
    /// # Errors
    /// When the library fails.
    pub fn seal_rtp(&mut self, packet: &mut Vec<u8>, header: usize, ssrc: u32, index: u64) -> Result<()> {
        let mut tag = [0; TAG];
        let (aad, body) = packet.split_at_mut(header);
        let nonce = nonce(&self.out.rtp_salt, ssrc, index);
        self.out.rtp.seal_in_place(&nonce, aad, body, &mut tag).map_err(|e| anyhow!("sealing: {e}"))?;
        packet.extend_from_slice(&tag);
        Ok(())
    }

    /// Opens an RTP packet; the payload is `header..` of the returned length. `None`: not authentic.
    pub fn open_rtp(&mut self, packet: &mut [u8], header: usize, ssrc: u32, index: u64) -> Option<usize> {
        let end = packet.len().checked_sub(TAG).filter(|end| *end >= header)?;
        let (body, tag) = packet.split_at_mut(end);
        let (aad, cipher) = body.split_at_mut(header);
        let nonce = nonce(&self.into.rtp_salt, ssrc, index);
        self.into.rtp.open_in_place(&nonce, aad, cipher, tag).ok()?;
        Some(end)
    }

    /// Seals a compound.
    ///
    /// # Errors
    /// When it is shorter than a header, or the library fails.
    pub fn seal_rtcp(&mut self, packet: &mut Vec<u8>) -> Result<()> {
        self.rtcp_index += 1;
        let ssrc = packet.get(4..8).context("a compound has a header")?;
        let ssrc = u32::from_be_bytes([ssrc[0], ssrc[1], ssrc[2], ssrc[3]]);
        let trailer = (ENCRYPTED | self.rtcp_index).to_be_bytes();
        let nonce = nonce(&self.out.rtcp_salt, ssrc, u64::from(self.rtcp_index));
        let mut tag = [0; TAG];
        let (clear, body) = packet.split_at_mut(8);
        let aad = [&*clear, &trailer].concat();
        self.out.rtcp.seal_in_place(&nonce, &aad, body, &mut tag).map_err(|e| anyhow!("sealing: {e}"))?;
        packet.extend_from_slice(&tag);
        packet.extend_from_slice(&trailer);
        Ok(())
    }

    /// Opens a compound; returns its length. `None`: not authentic.
    pub fn open_rtcp(&mut self, packet: &mut [u8]) -> Option<usize> {
        let end = packet.len().checked_sub(TAG + 4).filter(|end| *end >= 8)?;
        let (body, rest) = packet.split_at_mut(end);
        let (tag, trailer) = rest.split_at(TAG);
        let index = u32::from_be_bytes(trailer.try_into().ok()?) & !ENCRYPTED;
        let (clear, cipher) = body.split_at_mut(8);
        let ssrc = u32::from_be_bytes(clear[4..8].try_into().ok()?);
        let nonce = nonce(&self.into.rtcp_salt, ssrc, u64::from(index));
        let aad = [&*clear, trailer].concat();
        self.into.rtcp.open_in_place(&nonce, &aad, cipher, tag).ok()?;
        Some(end)
    }
}
