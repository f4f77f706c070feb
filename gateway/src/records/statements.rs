//! Every statement. Each is written so that PostgreSQL and SQLite both take it, and a test has both prepare all of them.

/// A room's row, or what is new in it. What is known stays as it was known first.
pub const SESSION: &str = "\
INSERT INTO callplane_rooms (room_uid, room_id, host_id, created_ms, started_ms, ended_ms, reason)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (room_uid) DO UPDATE SET
    started_ms = COALESCE(callplane_rooms.started_ms, excluded.started_ms),
    ended_ms = COALESCE(callplane_rooms.ended_ms, excluded.ended_ms),
    reason = COALESCE(callplane_rooms.reason, excluded.reason)";

/// Everybody has left a room that ended.
pub const ALL_LEFT: &str = "\
UPDATE callplane_participants SET left_ms = $2, reason = 'ended' WHERE room_uid = $1 AND left_ms IS NULL";

/// Something that happened. Nothing when it was written before.
pub const AUDIT: &str = "\
INSERT INTO callplane_audit (id, at_ms, actor, action, room_id, room_uid, target, outcome)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (id) DO NOTHING";

/// Somebody was given a join token, or was connected: the one may be known before the other.
pub const PRESENT: &str = "\
INSERT INTO callplane_participants (id, room_uid, user_id, role, admitted_ms, joined_ms)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (room_uid, user_id) WHERE left_ms IS NULL DO UPDATE SET
    role = excluded.role,
    admitted_ms = COALESCE(callplane_participants.admitted_ms, excluded.admitted_ms),
    joined_ms = COALESCE(callplane_participants.joined_ms, excluded.joined_ms)";

/// Whoever is told of only after the room ended left when it did.
pub const CAME_BEFORE_END: &str = "\
UPDATE callplane_participants
SET left_ms = (SELECT ended_ms FROM callplane_rooms WHERE room_uid = $1), reason = 'ended'
WHERE room_uid = $1 AND user_id = $2 AND left_ms IS NULL
    AND EXISTS (SELECT 1 FROM callplane_rooms WHERE room_uid = $1 AND ended_ms IS NOT NULL)";

/// Somebody left.
pub const LEFT: &str = "\
UPDATE callplane_participants SET left_ms = $3, reason = $4
WHERE room_uid = $1 AND user_id = $2 AND left_ms IS NULL";

/// Somebody's answer.
pub const CONSENT: &str = "\
INSERT INTO callplane_consents
    (id, at_ms, room_uid, room_id, user_id, consent_type, version, status, given_by)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";

/// A page of answers, in the order that they were given. `$2` is empty for all rooms that had this id.
pub const CONSENTS: &str = "\
SELECT id, at_ms, room_uid, user_id, consent_type, version, status, given_by
FROM callplane_consents
WHERE room_id = $1 AND ($2 = '' OR room_uid = $2) AND (at_ms > $3 OR (at_ms = $3 AND id > $4))
ORDER BY at_ms, id
LIMIT $5";

/// Somebody's last answer about one thing in one room.
pub const LAST_ANSWER: &str = "\
SELECT status
FROM callplane_consents
WHERE room_id = $1 AND room_uid = $2 AND user_id = $3 AND consent_type = $4
ORDER BY at_ms DESC, id DESC
LIMIT 1";

/// All of them, for the test.
#[cfg(test)]
pub const ALL: [&str; 9] = [SESSION, ALL_LEFT, AUDIT, PRESENT, CAME_BEFORE_END, LEFT, CONSENT, CONSENTS, LAST_ANSWER];
