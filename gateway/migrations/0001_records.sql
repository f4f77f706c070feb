-- Written for PostgreSQL and SQLite alike. Times are milliseconds since 1970, UTC.

-- One row for each CallRoom that there was.
CREATE TABLE callplane_rooms (
    room_uid TEXT PRIMARY KEY,
    room_id TEXT NOT NULL,
    host_id TEXT,
    created_ms BIGINT NOT NULL,
    started_ms BIGINT,
    ended_ms BIGINT,
    reason TEXT
);
CREATE INDEX callplane_rooms_by_id ON callplane_rooms (room_id, created_ms);

-- One row for each stay of somebody in a room. admitted: was given a join token; joined: was connected.
CREATE TABLE callplane_participants (
    id TEXT PRIMARY KEY,
    room_uid TEXT NOT NULL,
    user_id TEXT NOT NULL,
    role TEXT NOT NULL,
    admitted_ms BIGINT,
    joined_ms BIGINT,
    left_ms BIGINT,
    reason TEXT
);
-- Nobody is in a room twice at a time.
CREATE UNIQUE INDEX callplane_participants_present ON callplane_participants (room_uid, user_id) WHERE left_ms IS NULL;
CREATE INDEX callplane_participants_by_room ON callplane_participants (room_uid);

-- One row for each answer that somebody gave. None is ever changed.
CREATE TABLE callplane_consents (
    id TEXT PRIMARY KEY,
    at_ms BIGINT NOT NULL,
    room_uid TEXT NOT NULL,
    room_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    consent_type TEXT NOT NULL,
    version TEXT NOT NULL,
    status TEXT NOT NULL,
    given_by TEXT NOT NULL
);
CREATE INDEX callplane_consents_by_room ON callplane_consents (room_id, at_ms, id);

-- One row for each thing that somebody did, or was refused.
CREATE TABLE callplane_audit (
    id TEXT PRIMARY KEY,
    at_ms BIGINT NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    room_id TEXT NOT NULL,
    room_uid TEXT,
    target TEXT,
    outcome TEXT NOT NULL
);
CREATE INDEX callplane_audit_by_room ON callplane_audit (room_id, at_ms);
