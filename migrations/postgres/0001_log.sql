-- The log is the system: everything else can be made from it again.
CREATE TABLE event (
    position BIGINT PRIMARY KEY,       -- gapless, from 1
    at       BIGINT NOT NULL,          -- milliseconds since 1970-01-01T00:00:00Z
    actor    TEXT   NOT NULL,
    subject  TEXT   NOT NULL,          -- m1, v2, s3, a MAC address, a package's name, site
    kind     TEXT   NOT NULL,          -- machine.adopted
    version  BIGINT NOT NULL,          -- of the shape of body
    body     TEXT   NOT NULL,          -- JSON
    command  TEXT,                     -- JSON; the order it came from, at the first of its events
    sum      BIGINT                    -- first eight octets of SHA-256 over the row (store/row.rs)
);
CREATE INDEX event_subject ON event (subject, position);

-- Lines of timelines that decide nothing: packets, files fetched, steps, refusals.
CREATE TABLE note (
    id      BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at      BIGINT NOT NULL,
    subject TEXT   NOT NULL,
    kind    TEXT   NOT NULL,
    text    TEXT   NOT NULL
);
CREATE INDEX note_subject ON note (subject, id);

-- What each node said last.
CREATE TABLE observed (
    node TEXT   PRIMARY KEY,
    at   BIGINT NOT NULL,
    body TEXT   NOT NULL
);
CREATE INDEX observed_at ON observed (at);

-- The fleet as it was after an event, so that a start need not replay everything. The parts are written one by one,
-- then the line that makes them a snapshot.
CREATE TABLE snapshot (
    position BIGINT PRIMARY KEY,       -- of the last event in it
    at       BIGINT NOT NULL,
    version  BIGINT NOT NULL,          -- of the shape of the bodies
    hash     TEXT   NOT NULL,          -- of the state, hexadecimal
    parts    BIGINT NOT NULL
);

CREATE TABLE snapshot_part (
    position BIGINT NOT NULL,
    part     BIGINT NOT NULL,
    noun     TEXT   NOT NULL,
    body     BYTEA  NOT NULL,          -- JSON, an object a line
    PRIMARY KEY (position, part)
);
-- Read whole and at every start: not worth the time of compression.
ALTER TABLE snapshot_part ALTER COLUMN body SET STORAGE EXTERNAL;

-- The authority whose certificates the site's nodes trust; each daemon that uses this log has it in its own folder.
CREATE TABLE authority (
    fingerprint TEXT PRIMARY KEY       -- SHA-256 of the certificate
);
