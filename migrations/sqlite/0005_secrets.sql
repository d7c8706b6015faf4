-- What must be kept and is never shown, such as passwords of BMCs: sealed by a key that is not in the database.
CREATE TABLE secret (
    name   TEXT    PRIMARY KEY,
    key    TEXT    NOT NULL,   -- which key it is sealed with; the key cannot be made from it
    sealed BLOB    NOT NULL,   -- nonce, then ChaCha20-Poly1305 with the name as associated data
    at     INTEGER NOT NULL
) STRICT;
