-- Whose credits may have changed, and how far that has been read.

CREATE SCHEMA creditsd;

COMMENT ON SCHEMA creditsd IS
'creditsd: each user''s total of credits, kept current and published. Made by "creditsd install", removed by "creditsd uninstall".';

REVOKE ALL ON SCHEMA creditsd FROM PUBLIC;

CREATE TABLE creditsd.installation (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    migration integer NOT NULL,
    digest text NOT NULL,
    source jsonb NOT NULL,
    role text NOT NULL,
    installed_at timestamptz NOT NULL DEFAULT now()
);

COMMENT ON TABLE creditsd.installation IS 'One row: what is installed here, and for which table.';
COMMENT ON COLUMN creditsd.installation.migration IS 'The number of the newest migration applied.';
COMMENT ON COLUMN creditsd.installation.digest IS 'Of the SQL of the view, the functions and the triggers.';
COMMENT ON COLUMN creditsd.installation.role IS 'The restricted role that was granted what the daemon needs; empty for none.';
COMMENT ON COLUMN creditsd.installation.source IS 'The table, columns and words that the view source and the triggers were made from.';

CREATE TABLE creditsd.changes (
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    user_id {user_id_type}{user_id_collation} NOT NULL
) WITH (
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 20000,
    autovacuum_vacuum_insert_threshold = -1,
    autovacuum_analyze_threshold = 1000000000,
    vacuum_truncate = off
);

CREATE INDEX changes_xid_user_id ON creditsd.changes (xid, user_id);

COMMENT ON TABLE creditsd.changes IS
'Look at this user again: written by the triggers, with the change itself. Says nothing about what changed; rows may repeat.';
COMMENT ON COLUMN creditsd.changes.xid IS 'The transaction that wrote the change; the reader keeps a snapshot of those it has read.';
COMMENT ON INDEX creditsd.changes_xid_user_id IS 'The order in which changes are read and purged.';

CREATE TABLE creditsd.resyncs (
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    cause text NOT NULL
);

COMMENT ON TABLE creditsd.resyncs IS 'Look at everyone again: written by the truncate trigger and by "creditsd backfill".';

CREATE TABLE creditsd.reader (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    snapshot pg_snapshot NOT NULL,
    purged pg_snapshot NOT NULL,
    system_identifier bigint NOT NULL,
    timeline integer NOT NULL,
    started_at timestamptz NOT NULL,
    policy text NOT NULL,
    partitions text NOT NULL,
    resync_cause text,
    resync_after text,
    resync_users bigint NOT NULL DEFAULT 0,
    saved_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

COMMENT ON TABLE creditsd.reader IS 'One row: how far the daemon has read, and of which server.';
COMMENT ON COLUMN creditsd.reader.snapshot IS 'Every change visible in this snapshot has been recomputed.';
COMMENT ON COLUMN creditsd.reader.purged IS 'Every change visible in this snapshot has been deleted from changes.';
COMMENT ON COLUMN creditsd.reader.system_identifier IS 'The server it was read from; another one means a restore.';
COMMENT ON COLUMN creditsd.reader.timeline IS 'Changes with a failover.';
COMMENT ON COLUMN creditsd.reader.started_at IS 'When that server had started; later means that it restarted since.';
COMMENT ON COLUMN creditsd.reader.policy IS 'can_buy and expire_empty in force; a change recomputes everyone.';
COMMENT ON COLUMN creditsd.reader.partitions IS 'The partitions of the source; a change recomputes everyone.';
COMMENT ON COLUMN creditsd.reader.resync_cause IS 'Why everyone is being recomputed; null when nobody is.';
COMMENT ON COLUMN creditsd.reader.resync_users IS 'How many users this resync has done.';
COMMENT ON COLUMN creditsd.reader.resync_after IS 'The last user that this resync has done; null at its beginning.';
