-- Who may speak to the page and the REST API.

CREATE TABLE password (
    person TEXT PRIMARY KEY,
    -- PHC string of argon2id
    hash   TEXT NOT NULL,
    set_at INTEGER NOT NULL
) STRICT;

CREATE TABLE session (
    -- SHA-256 of the cookie's or token's value, hex: whoever reads the database cannot log in with it
    token   TEXT PRIMARY KEY,
    person  TEXT NOT NULL,
    -- 'page' or 'eli'
    kind    TEXT NOT NULL,
    made_at INTEGER NOT NULL,
    used_at INTEGER NOT NULL,
    ends_at INTEGER NOT NULL
) STRICT;
