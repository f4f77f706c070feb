//! The ICE servers that participants are told, with credentials minted for each.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use callplane_crds::{CallRoom, callroom::Provision};
use callplane_operator::turn::{
    self, Credential,
    credential::LONGEST_WITH_TOKEN,
    keys::{SECRET, URLS, is_usable},
    opaque_id,
};
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use crate::Gateway;

/// How often the directory is read again.
const RELOAD: Duration = Duration::from_secs(5);
/// Longest file that is read.
const MAX_FILE: u64 = 64 * 1024;

/// An `RTCIceServer` (WebRTC §4.2.4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct IceServer {
    /// `stun:`, `turn:` and `turns:` URLs.
    pub urls: Vec<String>,
    /// Of a TURN server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Of a TURN server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
}

/// Mints TURN credentials with a mounted secret that may change. Clones are the same.
#[derive(Clone, Default)]
pub struct TurnServers(Arc<Inner>);

#[derive(Default)]
struct Inner {
    directory: Option<PathBuf>,
    urls: Vec<String>,
    known: RwLock<Option<Known>>,
}

#[derive(PartialEq, Eq)]
struct Known {
    secret: String,
    /// Each server's URLs, separated by spaces.
    servers: Vec<String>,
}

impl TurnServers {
    /// With `secret` of `directory`, and the servers in its file `urls`, or `urls` where there are some. Where there is
    /// no secret there is no TURN; it may come.
    pub fn new(directory: PathBuf, urls: Vec<String>) -> Self {
        let servers = Self(Arc::new(Inner { directory: Some(directory), urls, known: RwLock::default() }));
        servers.reload();
        servers
    }

    /// Reads the secret again for as long as it is polled. What cannot be read leaves the earlier one good.
    pub async fn keep_reading(self) {
        loop {
            tokio::time::sleep(RELOAD).await;
            self.reload();
        }
    }

    /// Reads the secret again.
    pub fn reload(&self) {
        let Some(directory) = &self.0.directory else { return };
        let known = match self.read(directory) {
            Ok(known) => known,
            // It is not mounted: there is no TURN, or not yet.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => {
                tracing::warn!(%error, "no shared secret of TURN could be read");
                return;
            }
        };
        let mut current = self.0.known.write().unwrap_or_else(PoisonError::into_inner);
        if current.as_ref() != Some(&known) {
            tracing::info!(servers = known.servers.len(), "TURN credentials are minted anew");
            *current = Some(known);
        }
    }

    fn read(&self, directory: &Path) -> Result<Known, io::Error> {
        let text = |name: &str| {
            let path = directory.join(name);
            match fs::metadata(&path)?.len() {
                0..=MAX_FILE => fs::read_to_string(path),
                _ => Err(io::Error::other(format!("{name} is too long"))),
            }
        };
        let secret = text(SECRET)?.trim().to_owned();
        if !is_usable(&secret) {
            return Err(io::Error::other("it is not 16 to 256 characters without spaces"));
        }
        let servers = match self.0.urls.as_slice() {
            [] => text(URLS)?.lines().map(str::to_owned).filter(|line| !line.is_empty()).collect(),
            urls => turn::configured_servers(urls),
        };
        Ok(Known { secret, servers })
    }

    /// The servers for `user` in the room with `room_uid`, with a credential that is good for `ttl` from `now`: 600 s at
    /// most. Empty where there is no TURN.
    pub fn mint(&self, room_uid: &str, user: &str, ttl: Duration, now: Timestamp) -> Vec<IceServer> {
        let known = self.0.known.read().unwrap_or_else(PoisonError::into_inner);
        let Some(known) = known.as_ref() else { return Vec::new() };
        let ttl = ttl.min(Duration::from_secs(LONGEST_WITH_TOKEN.unsigned_abs()));
        let ends = now.checked_add(ttl).unwrap_or(now);
        let credential = Credential::mint(&known.secret, &opaque_id(&[room_uid, user]), ends);
        let told = turn::ice_servers(&known.servers, room_uid, &credential).into_iter().map(|server| IceServer {
            urls: server.urls,
            username: Some(server.username),
            credential: Some(server.credential),
        });
        told.collect()
    }
}

impl Gateway {
    /// ICE servers for `user` of `room`, with a credential that lives as long as their join token. None: peers and media
    /// nodes are reached directly.
    pub fn ice_servers(&self, room: &CallRoom, user: &str) -> Vec<IceServer> {
        let turn = room.spec.turn.clone().unwrap_or_default();
        if turn.provision == Provision::None {
            return Vec::new();
        }
        let ttl = u64::try_from(turn.ttl_seconds).unwrap_or_default();
        let ttl = self.token_ttl.min(Duration::from_secs(ttl));
        self.turn.mint(room.metadata.uid.as_deref().unwrap_or_default(), user, ttl, self.clock.now().wall)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Scratch;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    const ONE: &str = "turn:a:3478?transport=udp turn:a:3478?transport=tcp";

    #[test]
    fn each_participant_has_a_credential_of_their_own_that_ends_in_time() {
        let scratch = Scratch::new();
        let write = |name: &str, text: &str| fs::write(scratch.path().join(name), text).unwrap();
        let turn = TurnServers::new(scratch.path().to_owned(), vec![]);
        let mint = |user: &str, ttl| turn.mint("uid", user, Duration::from_secs(ttl), at(0));
        assert!(mint("ann", 600).is_empty(), "there is no secret yet");

        write(SECRET, "0123456789abcdef\n");
        write(URLS, &format!("{ONE}\n"));
        turn.reload();
        let [server] = &mint("ann", 600)[..] else { panic!("one server") };
        assert_eq!(server.urls, ["turn:a:3478?transport=udp", "turn:a:3478?transport=tcp"]);
        let username = server.username.as_deref().unwrap();
        assert_eq!(username, format!("1800000600:{}", opaque_id(&["uid", "ann"])));
        assert!(!username.contains("ann"));
        let expected = Credential::mint("0123456789abcdef", username.split_once(':').unwrap().1, at(600));
        assert_eq!(server.credential.as_deref(), Some(expected.password.as_str()));
        assert_ne!(mint("bob", 600), mint("ann", 600));
        assert!(mint("ann", 86_400)[0].username.as_ref().unwrap().starts_with("1800000600:"), "never longer");
        assert!(mint("ann", 60)[0].username.as_ref().unwrap().starts_with("1800000060:"));
    }

    #[test]
    fn a_replaced_secret_counts_and_a_broken_one_does_not() {
        let scratch = Scratch::new();
        let write = |name: &str, text: &str| fs::write(scratch.path().join(name), text).unwrap();
        write(SECRET, "0123456789abcdef");
        let turn = TurnServers::new(scratch.path().to_owned(), vec!["turns:b:443".to_owned()]);
        let mint = || turn.mint("uid", "ann", Duration::from_secs(600), at(0));
        let first = mint();
        assert_eq!(first[0].urls, ["turns:b:443"], "flags go before the file");
        write(SECRET, "fedcba9876543210");
        turn.reload();
        let second = mint();
        assert_ne!(first, second);
        for broken in ["", "short", "with a space in it all", &"x".repeat(300)] {
            write(SECRET, broken);
            turn.reload();
            assert_eq!(mint(), second, "{broken:?}");
        }
        fs::remove_file(scratch.path().join(SECRET)).unwrap();
        turn.reload();
        assert_eq!(mint(), second);
    }
}
