-- The log is the system: everything else can be made from it again.
CREATE TABLE event (
    position INTEGER PRIMARY KEY,      -- gapless, from 1
    at       INTEGER NOT NULL,         -- milliseconds since 1970-01-01T00:00:00Z
    actor    TEXT    NOT NULL,
    subject  TEXT    NOT NULL,         -- m1, v2, s3, a MAC address, a package's name, site
    kind     TEXT    NOT NULL,         -- machine.adopted
    version  INTEGER NOT NULL,         -- of the shape of body
    body     TEXT    NOT NULL          -- JSON
) STRICT;
CREATE INDEX event_subject ON event (subject, position);

-- Lines of timelines that decide nothing: packets, files fetched, steps, refusals.
CREATE TABLE note (
    id      INTEGER PRIMARY KEY,
    at      INTEGER NOT NULL,
    subject TEXT    NOT NULL,
    kind    TEXT    NOT NULL,
    text    TEXT    NOT NULL
) STRICT;
CREATE INDEX note_subject ON note (subject, id);

-- What each node said last.
CREATE TABLE observed (
    node TEXT    PRIMARY KEY,
    at   INTEGER NOT NULL,
    body TEXT    NOT NULL
) STRICT;
