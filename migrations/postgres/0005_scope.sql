-- What a token is for, in words with spaces between them; without any, for all that its role may.
ALTER TABLE session ADD COLUMN scope TEXT;
