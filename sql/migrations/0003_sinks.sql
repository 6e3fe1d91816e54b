-- How far each sink has been told.

CREATE TABLE creditsd.sinks (
    name text PRIMARY KEY,
    cursor bigint NOT NULL DEFAULT 0,
    delivered bigint NOT NULL DEFAULT 0,
    last_error text,
    last_error_at timestamptz,
    saved_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

COMMENT ON TABLE creditsd.sinks IS 'How far each sink has been told; a sink that is not configured any more keeps its row.';
COMMENT ON COLUMN creditsd.sinks.cursor IS 'Every balance up to this version has arrived there.';
COMMENT ON COLUMN creditsd.sinks.delivered IS 'How many totals have arrived, repetitions included.';
COMMENT ON COLUMN creditsd.sinks.last_error IS 'Why it stands still; null while it does not.';
