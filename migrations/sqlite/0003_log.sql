-- The order that an event came from stands at the first of its events; events written by hand have none.
ALTER TABLE event ADD COLUMN command TEXT;   -- JSON
-- First eight octets of SHA-256 over the row (store/row.rs); events written by hand may have none.
ALTER TABLE event ADD COLUMN sum INTEGER;

-- The fleet as it was after an event, so that a start need not replay everything. The parts are written one by one,
-- then the line that makes them a snapshot.
CREATE TABLE snapshot (
    position INTEGER PRIMARY KEY,      -- of the last event in it
    at       INTEGER NOT NULL,
    version  INTEGER NOT NULL,         -- of the shape of the bodies
    hash     TEXT    NOT NULL,         -- of the state, hexadecimal
    parts    INTEGER NOT NULL
) STRICT;

CREATE TABLE snapshot_part (
    position INTEGER NOT NULL,
    part     INTEGER NOT NULL,
    noun     TEXT    NOT NULL,
    body     BLOB    NOT NULL,         -- JSON, an object a line
    PRIMARY KEY (position, part)
) STRICT;

CREATE INDEX observed_at ON observed (at);

-- The authority whose certificates the site's nodes trust; each daemon that uses this log has it in its own folder.
CREATE TABLE authority (
    fingerprint TEXT PRIMARY KEY       -- SHA-256 of the certificate
) STRICT;
