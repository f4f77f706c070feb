//! ICE servers that clients are told of by `Link` (RFC 9725 §4.6).

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

use aws_lc_rs::hmac;
use axum::http::{HeaderMap, HeaderValue, header};
use base64::{Engine, engine::general_purpose::STANDARD};
use tracing::warn;

/// How long credentials for TURN are good for, in seconds: a broadcast's length, because nobody tells the
/// client of new ones.
const TURN_LIFETIME: i64 = 24 * 3600;

/// STUN and TURN servers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IceServers {
    /// URIs (RFC 7064, RFC 7065).
    uris: Vec<String>,
    /// File with the secret that TURN servers share with this node.
    turn_secret: Option<PathBuf>,
}

/// The configuration cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidIceServer {
    /// Not a URI of such a server.
    #[error("{0:?} is not a stun:, stuns:, turn: or turns: URI")]
    Uri(String),
    /// TURN wants credentials.
    #[error("{0} needs --turn-secret-file")]
    NoSecret(String),
}

impl IceServers {
    /// # Errors
    /// [`InvalidIceServer`].
    pub fn new(uris: Vec<String>, turn_secret: Option<PathBuf>) -> Result<Self, InvalidIceServer> {
        for uri in &uris {
            let (scheme, rest) = uri.split_once(':').unwrap_or_default();
            let is_plain = |b: u8| b.is_ascii_graphic() && !b"<>\"\\^`{|}".contains(&b);
            if !matches!(scheme, "stun" | "stuns" | "turn" | "turns") || rest.is_empty() || !rest.bytes().all(is_plain)
            {
                return Err(InvalidIceServer::Uri(uri.clone()));
            }
            if scheme.starts_with("turn") && turn_secret.is_none() {
                return Err(InvalidIceServer::NoSecret(uri.clone()));
            }
        }
        Ok(Self { uris, turn_secret })
    }

    /// Adds a `Link` for each server. Those of TURN have credentials for this user from the shared secret
    /// (`use-auth-secret` of coturn); the file is read each time, so that a new secret counts at once.
    pub(super) async fn link(&self, headers: &mut HeaderMap, user: &str, now: i64) {
        let secret = match self.turn_secret.clone() {
            Some(path) => tokio::task::spawn_blocking(move || read(&path)).await.ok().flatten(),
            None => None,
        };
        for uri in &self.uris {
            let mut link = format!("<{uri}>; rel=\"ice-server\"");
            if uri.starts_with("turn") {
                let Some(secret) = &secret else { continue };
                let (username, credential) = credentials(secret.trim(), user, now + TURN_LIFETIME);
                let _ = write!(
                    link,
                    "; username=\"{username}\"; credential=\"{credential}\"; credential-type=\"password\""
                );
            }
            if let Ok(value) = HeaderValue::from_str(&link) {
                headers.append(header::LINK, value);
            }
        }
    }
}

fn read(path: &Path) -> Option<String> {
    fs::read_to_string(path)
        .inspect_err(|error| warn!(path = %path.display(), %error, "no TURN servers are announced"))
        .ok()
}

/// Username `<expiry>:<user>` and password of a shared secret (the TURN REST API, which coturn speaks).
fn credentials(secret: &str, user: &str, expiry: i64) -> (String, String) {
    // A user id may hold what a quoted string may not.
    let user: String =
        user.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.@".contains(c) { c } else { '_' }).collect();
    let username = format!("{expiry}:{user}");
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.as_bytes());
    let credential = STANDARD.encode(hmac::sign(&key, username.as_bytes()));
    (username, credential)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(uris: &[&str], secret: Option<&str>) -> Result<IceServers, InvalidIceServer> {
        IceServers::new(uris.iter().map(ToString::to_string).collect(), secret.map(PathBuf::from))
    }

    #[test]
    fn credentials_are_what_coturn_expects() {
        // printf '1700086400:ann' | openssl dgst -sha1 -hmac north -binary | base64
        let expected = ("1700086400:ann".to_owned(), "7FWQB06tq8mR4TsnapfLHms2f5Y=".to_owned());
        assert_eq!(credentials("north", "ann", 1_700_086_400), expected);
        assert_eq!(credentials("north", "a\"\r\nb", 1).0, "1:a___b");
    }

    #[tokio::test]
    async fn each_server_is_a_link_of_its_own() {
        let file = std::env::temp_dir().join(format!("callplane-turn-{}", std::process::id()));
        std::fs::write(&file, "north\n").unwrap();
        let uris = ["stun:stun.example.net", "turn:turn.example.net:3478?transport=udp"];
        let servers = servers(&uris, file.to_str()).unwrap();
        let mut headers = HeaderMap::new();
        servers.link(&mut headers, "ann", 1_700_000_000).await;
        let links: Vec<_> = headers.get_all(header::LINK).iter().map(|link| link.to_str().unwrap()).collect();
        let credential = credentials("north", "ann", 1_700_086_400).1;
        assert_eq!(links[0], "<stun:stun.example.net>; rel=\"ice-server\"");
        assert_eq!(
            links[1],
            format!(
                "<{}>; rel=\"ice-server\"; username=\"1700086400:ann\"; credential=\"{credential}\"; credential-type=\"password\"",
                uris[1]
            )
        );
        // Without its secret, TURN is of no use, and STUN still is.
        std::fs::remove_file(&file).unwrap();
        let mut headers = HeaderMap::new();
        servers.link(&mut headers, "ann", 0).await;
        assert_eq!(headers.get_all(header::LINK).iter().count(), 1);
    }

    #[test]
    fn what_is_no_server_is_refused() {
        for uri in ["example.net", "http://example.net", "stun:", "stun:a>b", "turn:a b"] {
            assert_eq!(servers(&[uri], Some("file")), Err(InvalidIceServer::Uri(uri.into())));
        }
        assert_eq!(servers(&["turn:a"], None), Err(InvalidIceServer::NoSecret("turn:a".into())));
    }
}
