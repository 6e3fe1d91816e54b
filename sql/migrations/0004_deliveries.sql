-- Deliveries that a sink refused while others passed.

CREATE TABLE creditsd.deliveries (
    sink text NOT NULL,
    user_id {user_id_type}{user_id_collation} NOT NULL,
    version bigint NOT NULL,
    attempt integer NOT NULL,
    next_at timestamptz,
    last_status integer,
    last_error text NOT NULL,
    refused_at timestamptz NOT NULL DEFAULT now(),
    tried_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (sink, user_id)
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 1000);

CREATE INDEX deliveries_next_at ON creditsd.deliveries (sink, next_at) WHERE next_at IS NOT NULL;

COMMENT ON TABLE creditsd.deliveries IS
'Totals that a sink refused: at most one a user, the newest. Tried again at next_at; without one it is a dead letter.';
COMMENT ON COLUMN creditsd.deliveries.version IS 'The total that was refused; a newer one that arrives takes this row away.';
COMMENT ON COLUMN creditsd.deliveries.attempt IS 'How often this version was tried.';
COMMENT ON COLUMN creditsd.deliveries.next_at IS 'When it is tried again; null once the schedule is at its end.';
COMMENT ON COLUMN creditsd.deliveries.refused_at IS 'When this version was refused first.';
COMMENT ON INDEX creditsd.deliveries_next_at IS 'The order in which a sink''s deliveries are tried again.';

ALTER TABLE creditsd.sinks
    ADD COLUMN paused_at timestamptz,
    ADD COLUMN disabled_reason text,
    ADD COLUMN failing_since timestamptz;

COMMENT ON COLUMN creditsd.sinks.paused_at IS 'Since when nothing is delivered, because somebody said so; null while it is.';
COMMENT ON COLUMN creditsd.sinks.disabled_reason IS 'Why we stopped by ourselves; null where we did not.';
COMMENT ON COLUMN creditsd.sinks.failing_since IS 'The first failure after which nothing has arrived; null once something does.';

CREATE TABLE creditsd.repairs (
    user_id {user_id_type}{user_id_collation} PRIMARY KEY
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

COMMENT ON TABLE creditsd.repairs IS
'Tell everywhere of this user again, with a new version: written by "creditsd verify --repair", done and deleted by the daemon.';
