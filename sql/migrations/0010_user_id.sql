-- A name for the type of a user's id, so that every query can say it, whatever the application chose.

CREATE DOMAIN creditsd.user_id AS {user_id_type}{user_id_collation};

COMMENT ON DOMAIN creditsd.user_id IS 'The type of a user''s id, as the application''s table has it.';

-- What a failover leaves behind: which versions were given out, and that everyone needs a new one.

ALTER TABLE creditsd.reader
    ADD COLUMN version_floor bigint NOT NULL DEFAULT 0,
    ADD COLUMN resync_republishes boolean NOT NULL DEFAULT false;

COMMENT ON COLUMN creditsd.reader.version_floor IS
'No version is given at or below this one: it was given out by a server that was lost, or to somebody who is forgotten.';
COMMENT ON COLUMN creditsd.reader.resync_republishes IS 'Whether this resync gives everyone a new version, changed or not.';
COMMENT ON COLUMN creditsd.reader.system_identifier IS 'The server it was read from; another one means a restore. 0: we may not know.';
COMMENT ON COLUMN creditsd.reader.timeline IS 'Changes with a failover. 0: we may not know.';
