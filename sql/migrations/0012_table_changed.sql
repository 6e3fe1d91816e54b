-- Notices whatever could hide a change of the table from us, not only its partitions.

ALTER TABLE creditsd.reader
    RENAME COLUMN partitions TO fingerprint;

COMMENT ON COLUMN creditsd.reader.fingerprint IS
'The table, its triggers, columns and partitions, and our functions, when everyone was last begun to be recomputed; see creditsd.fingerprint.';

ALTER TABLE creditsd.reader
    ADD COLUMN home text NOT NULL DEFAULT '';

COMMENT ON COLUMN creditsd.reader.home IS 'Where this row was written, see creditsd.home: elsewhere it is of another history. Empty until a daemon leads.';

ALTER TABLE creditsd.installation
    ADD COLUMN functions text NOT NULL DEFAULT '';

COMMENT ON COLUMN creditsd.installation.functions IS 'Of the functions as they were made; differs once somebody has replaced one.';
COMMENT ON COLUMN creditsd.installation.digest IS 'Of the SQL of the functions and the triggers.';

-- Whatever a publication FOR ALL TABLES publishes needs to say which row is deleted.
ALTER TABLE creditsd.changes REPLICA IDENTITY FULL;
ALTER TABLE creditsd.resyncs REPLICA IDENTITY FULL;

-- The view is made anew, over a function: one over the table itself would forbid the application to alter the columns it reads.
DROP VIEW IF EXISTS creditsd.source;

ALTER TABLE creditsd.sinks
    ADD COLUMN served_by integer;

COMMENT ON COLUMN creditsd.sinks.served_by IS
'The server process of the leader that delivers there: whoever has other settings than the daemon can tell it from a sink nobody serves.';
