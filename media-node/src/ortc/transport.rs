//! ICE and DTLS parameters in JSON, and their translation for the core.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::Error;
use crate::core::command::{DtlsRole, Fingerprint, IceCredentials};

/// ICE type preference of a host candidate (RFC 8445 §5.1.2.2), shifted as mediasoup does so that UDP
/// comes before TCP.
const HOST_PRIORITY: u32 = 1_076_302_079;

/// How many addresses are preferred by UDP before the first by TCP, as in mediasoup.
const TCP_BEHIND: usize = 100;

/// Most fingerprints that a client may state.
const MAX_FINGERPRINTS: usize = 8;

/// The server's ICE credentials.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IceParameters {
    /// `ice-ufrag`.
    pub username_fragment: String,
    /// `ice-pwd`.
    pub password: String,
    /// Always true: the client does the checking (RFC 8445 §2.5).
    pub ice_lite: bool,
}

impl From<&IceCredentials> for IceParameters {
    fn from(ice: &IceCredentials) -> Self {
        Self { username_fragment: ice.ufrag.clone(), password: ice.password.clone(), ice_lite: true }
    }
}

/// An address under which the server is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IceCandidate {
    /// Equal for candidates of one kind.
    pub foundation: String,
    /// Higher is tried first.
    pub priority: u32,
    /// Address, under mediasoup's older name.
    pub ip: String,
    /// Address.
    pub address: String,
    /// `udp` or `tcp`.
    pub protocol: String,
    /// Port.
    pub port: u16,
    /// Always `host`.
    pub r#type: String,
    /// `passive` for TCP: the client connects (RFC 6544).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_type: Option<String>,
}

impl IceCandidate {
    /// The `index`th of the announced addresses, earlier ones preferred.
    pub fn host(address: SocketAddr, index: usize) -> Self {
        let less = u32::try_from(index).unwrap_or(u32::MAX).min(u32::from(u16::MAX)) << 8;
        Self {
            foundation: "udpcandidate".into(),
            priority: HOST_PRIORITY - less,
            ip: address.ip().to_string(),
            address: address.ip().to_string(),
            protocol: "udp".into(),
            port: address.port(),
            r#type: "host".into(),
            tcp_type: None,
        }
    }

    /// The same address by TCP, preferred less than any by UDP.
    pub fn host_tcp(address: SocketAddr, index: usize) -> Self {
        Self {
            foundation: "tcpcandidate".into(),
            protocol: "tcp".into(),
            tcp_type: Some("passive".into()),
            ..Self::host(address, index + TCP_BEHIND)
        }
    }
}

/// Who sends the ClientHello.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DtlsRoleName {
    /// Whoever likes; the server then waits for the client.
    #[default]
    Auto,
    /// Whoever states this.
    Client,
    /// The other end.
    Server,
}

/// DTLS parameters of one end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DtlsParameters {
    /// Role of the end that states it.
    #[serde(default)]
    pub role: DtlsRoleName,
    /// Fingerprints of its certificate.
    pub fingerprints: Vec<DtlsFingerprint>,
}

/// A certificate fingerprint (RFC 8122).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DtlsFingerprint {
    /// Hash function, such as `sha-256`.
    pub algorithm: String,
    /// Digest in hexadecimal pairs with colons.
    pub value: String,
}

impl From<&Fingerprint> for DtlsFingerprint {
    fn from(fingerprint: &Fingerprint) -> Self {
        let pairs: Vec<String> = fingerprint.digest.iter().map(|byte| format!("{byte:02X}")).collect();
        Self { algorithm: fingerprint.algorithm.clone(), value: pairs.join(":") }
    }
}

/// What the core needs of a client's DTLS parameters. Weak hashes (SHA-1, SHA-224) do not count.
///
/// # Errors
/// [`Error::Invalid`] for a malformed digest, [`Error::Unsupported`] if no strong one is left.
pub fn client_dtls(parameters: &DtlsParameters) -> Result<(DtlsRole, Vec<Fingerprint>), Error> {
    const FIELD: &str = "dtlsParameters.fingerprints";
    if !(1..=MAX_FINGERPRINTS).contains(&parameters.fingerprints.len()) {
        return Err(Error::invalid(FIELD, format!("must hold 1 to {MAX_FINGERPRINTS} entries")));
    }
    let mut fingerprints = Vec::new();
    for (index, given) in parameters.fingerprints.iter().enumerate() {
        let algorithm = given.algorithm.to_ascii_lowercase();
        let length = match algorithm.as_str() {
            "sha-256" => 32,
            "sha-384" => 48,
            "sha-512" => 64,
            _ => continue,
        };
        let digest = digest(&given.value).filter(|digest| digest.len() == length).ok_or_else(|| {
            Error::invalid(format!("{FIELD}[{index}].value"), format!("is not a {algorithm} digest in hex pairs"))
        })?;
        fingerprints.push(Fingerprint { algorithm, digest });
    }
    if fingerprints.is_empty() {
        return Err(Error::unsupported(FIELD, "one of sha-256, sha-384 and sha-512 is needed"));
    }
    let role = match parameters.role {
        DtlsRoleName::Server => DtlsRole::Server,
        DtlsRoleName::Client | DtlsRoleName::Auto => DtlsRole::Client,
    };
    Ok((role, fingerprints))
}

fn digest(value: &str) -> Option<Vec<u8>> {
    value
        .split(':')
        .map(|pair| match pair.len() {
            2 if pair.bytes().all(|b| b.is_ascii_hexdigit()) => u8::from_str_radix(pair, 16).ok(),
            _ => None,
        })
        .collect()
}
