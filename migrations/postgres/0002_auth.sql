-- Who may speak to the page and the REST API.
CREATE TABLE password (
    person TEXT   PRIMARY KEY,
    hash   TEXT   NOT NULL,            -- PHC string of argon2id
    set_at BIGINT NOT NULL
);

CREATE TABLE session (
    token   TEXT   PRIMARY KEY,        -- SHA-256 of it, hexadecimal
    person  TEXT   NOT NULL,
    client  TEXT   NOT NULL,           -- page, console
    made_at BIGINT NOT NULL,
    used_at BIGINT NOT NULL,
    ends_at BIGINT NOT NULL
);
CREATE INDEX session_ends_at ON session (ends_at);
