//! A TURN credential: a user name that says when it ends, and the MAC over it that coturn's `use-auth-secret` checks
//! ("A REST API For Access To TURN Services", draft-uberti-behave-turn-rest-00).

use aws_lc_rs::{
    digest::{SHA256, digest},
    hmac::{HMAC_SHA1_FOR_LEGACY_USE_ONLY, Key, sign},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use serde::Serialize;

/// Longest life of a credential that is handed out with a join token, in seconds.
pub const LONGEST_WITH_TOKEN: i64 = 600;
/// Servers that one client is told of. Each costs it an allocation for every transport: browsers warn from five on.
pub const MAX_SERVERS: usize = 2;
/// Bytes of the hash that stands for a person or a room in a user name.
const ID_BYTES: usize = 12;

/// What a client authenticates by.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// `<unix seconds of its end>:<whom it is for>`.
    pub username: String,
    /// Base64 of the HMAC-SHA1 of the user name.
    pub password: String,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential").field("username", &self.username).finish_non_exhaustive()
    }
}

impl Credential {
    /// A credential for `id`, good until `ends`. `id` must not hold the separator `:`; coturn counts quotas by it.
    pub fn mint(secret: &str, id: &str, ends: Timestamp) -> Self {
        let username = format!("{}:{id}", ends.as_second());
        let key = Key::new(HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.as_bytes());
        let password = STANDARD.encode(sign(&key, username.as_bytes()));
        Self { username, password }
    }
}

/// What stands for somebody in user names: the same for the same parts, and no name that a log could give away.
pub fn opaque_id(parts: &[&str]) -> String {
    let mut text = Vec::new();
    for part in parts {
        // The lengths keep ("ab", "c") and ("a", "bc") apart.
        text.extend_from_slice(&part.len().to_be_bytes());
        text.extend_from_slice(part.as_bytes());
    }
    digest(&SHA256, &text).as_ref().iter().take(ID_BYTES).map(|byte| format!("{byte:02x}")).collect()
}

/// An `RTCIceServer` (W3C WebRTC §4.2.2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct IceServer {
    /// `turn:` and `turns:` URLs of one server (RFC 7065).
    pub urls: Vec<String>,
    /// User name.
    pub username: String,
    /// Password.
    pub credential: String,
}

/// The ICE servers that somebody in the room `room` is told: up to [`MAX_SERVERS`] of `servers`, each a server's URLs
/// separated by spaces. Everybody in a room is told the same ones, and rooms are spread over all.
pub fn ice_servers(servers: &[String], room: &str, credential: &Credential) -> Vec<IceServer> {
    let begin = room.bytes().fold(0usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(byte)));
    let at = |i: usize| servers.get(begin.wrapping_add(i) % servers.len().max(1));
    (0..servers.len().min(MAX_SERVERS))
        .filter_map(at)
        .map(|urls| IceServer {
            urls: urls.split_whitespace().map(str::to_owned).collect(),
            username: credential.username.clone(),
            credential: credential.password.clone(),
        })
        .collect()
}

/// Whether `text` is a URL that a browser takes for a TURN server: `turn:HOST:PORT?transport=udp` and the like.
pub fn is_turn_url(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    let (place, query) = rest.split_once('?').map_or((rest, None), |(place, query)| (place, Some(query)));
    let (host, port) = match place.rsplit_once(':') {
        // The colons of an IPv6 address are in brackets.
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (place, None),
    };
    let bracketed = host.starts_with('[') && host.ends_with(']');
    let letters = |c: char| c.is_ascii_alphanumeric() || "-.*".contains(c) || bracketed && "[]:".contains(c);
    matches!(scheme, "turn" | "turns")
        && !host.is_empty()
        && host.chars().all(letters)
        && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
        && query.is_none_or(|query| matches!(query, "transport=udp" | "transport=tcp"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_what_coturn_computes() {
        let ends = Timestamp::from_second(1_800_000_000).unwrap();
        let credential = Credential::mint("north", "ann", ends);
        assert_eq!(credential.username, "1800000000:ann");
        // printf 1800000000:ann | openssl dgst -sha1 -hmac north -binary | base64
        assert_eq!(credential.password, "Sqiimhz6m4x0uPJBfx56aqeAS4E=");
        assert_ne!(credential, Credential::mint("south", "ann", ends));
        assert!(!format!("{credential:?}").contains(&credential.password), "passwords must not get into logs");
    }

    #[test]
    fn an_id_tells_people_apart_and_names_nobody() {
        let id = opaque_id(&["room", "ann@example.org"]);
        assert_eq!((id.len(), id.clone()), (24, opaque_id(&["room", "ann@example.org"])));
        assert!(id.chars().all(|c| c.is_ascii_hexdigit()));
        assert_ne!(opaque_id(&["ab", "c"]), opaque_id(&["a", "bc"]));
    }

    #[test]
    fn a_room_has_its_servers_and_rooms_are_spread() {
        let credential = Credential::mint("s", "i", Timestamp::UNIX_EPOCH);
        let servers: Vec<String> =
            ["a", "b", "c"].map(|h| format!("turn:{h}:3478?transport=udp turn:{h}:3478?transport=tcp")).into();
        let told = |room: &str| ice_servers(&servers, room, &credential);
        assert_eq!(told("x"), told("x"));
        assert_eq!((told("x").len(), told("x")[0].urls.len()), (MAX_SERVERS, 2));
        let first: std::collections::BTreeSet<String> =
            (0..20).map(|room| told(&format!("r{room}"))[0].urls[0].clone()).collect();
        assert_eq!(first.len(), 3);
        assert_eq!(ice_servers(&servers[..1], "x", &credential).len(), 1);
        assert!(ice_servers(&[], "x", &credential).is_empty());
    }

    #[test]
    fn what_is_no_turn_url_is_told_from_one() {
        for url in [
            "turn:turn.example.org:3478?transport=udp",
            "turns:turn.example.org:443?transport=tcp",
            "turn:192.0.2.1",
            "turn:[2001:db8::1]:3478",
            "turn:[2001:db8::1]",
            "turn:*:3478?transport=tcp",
        ] {
            assert!(is_turn_url(url), "{url}");
        }
        for url in [
            "",
            "stun:x",
            "turn:",
            "turn://x:3478",
            "turn:x:0",
            "turn:x:70000",
            "turn:x:3478?transport=sctp",
            "turn:user@x:3478",
            "turn:x y",
            "turn:2001:db8::1",
            "turn:x:3478 ",
        ] {
            assert!(!is_turn_url(url), "{url}");
        }
    }
}
