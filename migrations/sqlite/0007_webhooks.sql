-- Where events are sent. What they are signed with is in the table secret, as webhook/ID.
CREATE TABLE webhook (
    id        TEXT PRIMARY KEY,
    url       TEXT NOT NULL,
    subjects  TEXT NOT NULL,       -- with commas between them; none: events of all
    made_by   TEXT NOT NULL,
    made_at   INTEGER NOT NULL,
    position  INTEGER NOT NULL,     -- of the last event that was taken
    error     TEXT,                -- why the next one was not
    failed_at INTEGER
) STRICT;
