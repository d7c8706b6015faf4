-- A token that a person made for a program is a session, too: with a name, an end that use does not move, and perhaps a
-- smaller role than the person's own.
ALTER TABLE session ADD COLUMN name   TEXT;
ALTER TABLE session ADD COLUMN role   TEXT;   -- viewer, operator, admin
ALTER TABLE session ADD COLUMN origin TEXT;   -- the address it was opened from
