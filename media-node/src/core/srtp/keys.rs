//! Session keys from master keys (RFC 3711 §4.3) and master keys from DTLS (RFC 5764 §4.2).

use rtc::crypto::{BlockCipherAlgorithm, CryptoError, RTCCrypto};

use super::Profile;

/// Exporter label of DTLS-SRTP.
pub(crate) const EXPORTER_LABEL: &str = "EXTRACTOR-dtls_srtp";

/// What a derived key is for.
#[derive(Clone, Copy)]
pub(super) enum Label {
    RtpKey = 0,
    RtpAuth = 1,
    RtpSalt = 2,
    RtcpKey = 3,
    RtcpAuth = 4,
    RtcpSalt = 5,
}

/// One direction's master key and salt.
#[derive(Clone)]
pub(crate) struct Master {
    pub key: [u8; 16],
    pub salt: Vec<u8>,
}

/// The master keys of both sides of a handshake.
#[derive(Clone)]
pub(crate) struct KeyingMaterial {
    pub profile: Profile,
    /// Written by the DTLS client.
    pub client: Master,
    /// Written by the DTLS server.
    pub server: Master,
}

impl KeyingMaterial {
    /// Bytes to export from DTLS for a profile.
    pub fn len(profile: Profile) -> usize {
        2 * (16 + profile.salt_len())
    }

    /// Splits exported bytes; `None` if their number is not [`KeyingMaterial::len`].
    pub fn from_exported(profile: Profile, bytes: &[u8]) -> Option<Self> {
        if bytes.len() != Self::len(profile) {
            return None;
        }
        let (keys, salts) = bytes.split_at(32);
        let (client_salt, server_salt) = salts.split_at(profile.salt_len());
        let master = |key: &[u8], salt: &[u8]| Some(Master { key: key.try_into().ok()?, salt: salt.to_vec() });
        Some(Self { profile, client: master(&keys[..16], client_salt)?, server: master(&keys[16..], server_salt)? })
    }
}

/// AES-CM pseudo-random function with a key derivation rate of zero (RFC 3711 §4.3.3). Twelve-byte salts
/// are used as they are, padded on the right (RFC 7714 §11).
pub(super) fn derive(crypto: &dyn RTCCrypto, master: &Master, label: Label, out: &mut [u8]) -> Result<(), CryptoError> {
    let mut input = [0u8; 16];
    input[..master.salt.len()].copy_from_slice(&master.salt);
    input[7] ^= label as u8;
    for (counter, chunk) in out.chunks_mut(16).enumerate() {
        let mut block = input;
        block[14..].copy_from_slice(&(counter as u16).to_be_bytes());
        crypto.block_encrypt(BlockCipherAlgorithm::Aes128, &master.key, &mut block)?;
        chunk.copy_from_slice(&block[..chunk.len()]);
    }
    Ok(())
}
