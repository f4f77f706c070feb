//! Requests that are to be carried out once, however often they come (Idempotency-Key).

use aws_lc_rs::digest::{Context, SHA256};
use axum::http::HeaderMap;

use super::create::CreateRoom;
use crate::{Code, Gateway, Problem};

/// Longest Idempotency-Key.
const MAX_KEY: usize = 255;

/// A request that is to be carried out once.
pub(super) struct Once {
    /// Digest of the key and its caller.
    pub(super) key: String,
    /// Digest of the request.
    pub(super) request: String,
}

impl Once {
    pub(super) async fn of(
        gateway: &Gateway,
        headers: &HeaderMap,
        caller: &str,
        request: &CreateRoom,
    ) -> Result<Option<Self>, Problem> {
        let Some(key) = headers.get("idempotency-key") else { return Ok(None) };
        let key = key.to_str().ok().filter(|key| (1..=MAX_KEY).contains(&key.len()));
        let key = key.ok_or_else(|| {
            let detail = format!("is 1 to {MAX_KEY} visible ASCII characters");
            Problem::new(Code::Invalid, detail).field("Idempotency-Key")
        })?;
        // The password is not among it: a plain digest of it could be guessed at by all who may read CallRooms.
        let mut parts = vec![serde_json::to_string(request).unwrap_or_default()];
        if let Some(password) = &request.settings.password {
            parts.push(gateway.passwords.mark(password).await?);
        }
        let parts: Vec<_> = parts.iter().map(String::as_str).collect();
        // Keys of two callers are two keys.
        Ok(Some(Self { key: digest(&[caller, key]), request: digest(&parts) }))
    }
}

fn digest(parts: &[&str]) -> String {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part.as_bytes());
    }
    hex(&context.finish().as_ref()[..16])
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
