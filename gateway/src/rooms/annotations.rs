//! What the gateway remembers of a room, on its CallRoom.

use callplane_crds::CallRoom;
use kube::ResourceExt;

use crate::access::Role;

/// User id of the host.
pub const HOST_ID: &str = "callplane.io/host-id";
/// Roles that may join, separated by commas. Absent: all.
pub const ALLOWED_ROLES: &str = "callplane.io/allowed-roles";
/// `true`: only hosts may join.
pub const LOCKED: &str = "callplane.io/locked";
/// argon2id hash of the password, made with the gateways' key. Absent: none.
pub const PASSWORD: &str = "callplane.io/password-hash";
/// User id of who locked or unlocked the room last, in the call.
pub const LOCKED_BY: &str = "callplane.io/locked-by";
/// Share links that were revoked, separated by commas.
pub const REVOKED_LINKS: &str = "callplane.io/revoked-links";
/// Digest of the Idempotency-Key and its caller.
pub const IDEMPOTENCY_KEY: &str = "callplane.io/idempotency-key";
/// Digest of the request that the Idempotency-Key was used for.
pub const REQUEST: &str = "callplane.io/request";

/// The annotation, or nothing.
pub fn text<'a>(room: &'a CallRoom, annotation: &str) -> Option<&'a str> {
    room.annotations().get(annotation).map(String::as_str)
}

/// Whether only hosts may join.
pub fn is_locked(room: &CallRoom) -> bool {
    text(room, LOCKED) == Some("true")
}

/// Roles that may join. What is no role is left out, so a spoilt annotation lets in too few and not too many.
pub fn allowed_roles(room: &CallRoom) -> Vec<Role> {
    let all = [Role::Host, Role::Participant, Role::Guest];
    let Some(text) = text(room, ALLOWED_ROLES) else { return all.to_vec() };
    all.into_iter().filter(|role| text.split(',').any(|name| name.trim() == role.as_str())).collect()
}
