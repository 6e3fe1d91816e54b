-- What is ours, by name: without CASCADE PostgreSQL refuses where others have built on it, or put their own beside it.
DROP FUNCTION IF EXISTS
    creditsd.capture_insert,
    creditsd.capture_update,
    creditsd.capture_delete,
    creditsd.capture_truncate;

DROP VIEW IF EXISTS creditsd.source;

DROP FUNCTION IF EXISTS creditsd.source_rows;

DROP TYPE IF EXISTS creditsd.total;

DROP TABLE IF EXISTS
    creditsd.history_kept,
    creditsd.history,
    creditsd.problems,
    creditsd.repairs,
    creditsd.attempts,
    creditsd.deliveries,
    creditsd.sinks,
    creditsd.balances,
    creditsd.reader,
    creditsd.resyncs,
    creditsd.changes,
    creditsd.installation;

DROP TYPE IF EXISTS creditsd.past;

DROP FUNCTION IF EXISTS creditsd.signed_in;

DROP DOMAIN IF EXISTS creditsd.user_id;

DROP SCHEMA creditsd;
