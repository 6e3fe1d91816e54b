-- Each step of each total, for a time, where somebody wants it.

CREATE TABLE creditsd.history (
    version bigint NOT NULL,
    user_id {user_id_type}{user_id_collation} NOT NULL,
    updated_at timestamptz NOT NULL,
    credits numeric NOT NULL,
    membership_status text NOT NULL,
    plan_type text NOT NULL,
    can_buy boolean NOT NULL,
    has_ever_had_subscription boolean NOT NULL,
    subscription_id text,
    membership text,
    expires_at timestamptz,
    cause text NOT NULL,
    previous json,
    events jsonb,
    PRIMARY KEY (version)
) PARTITION BY RANGE (version);

CREATE INDEX history_user_id_version ON creditsd.history (user_id, version);

COMMENT ON TABLE creditsd.history IS
'Every total that was ever published, while [history] days lasts: written with balances, in the same transaction. A partition a day (UTC), by version.';
COMMENT ON COLUMN creditsd.history.version IS 'As in balances; at least the microseconds since 1970 when it was made, so it tells the day.';
COMMENT ON COLUMN creditsd.history.cause IS 'Why this version exists: change, expiry, auto-expire, backfill or repair.';
COMMENT ON COLUMN creditsd.history.previous IS 'The total before this version; null for the first.';
COMMENT ON COLUMN creditsd.history.events IS 'What has happened and still stood, as in balances.';
COMMENT ON INDEX creditsd.history_pkey IS 'The order in which a sink that wants every step is told.';
COMMENT ON INDEX creditsd.history_user_id_version IS 'One user''s steps in their order.';

CREATE TABLE creditsd.history_rest PARTITION OF creditsd.history DEFAULT;

COMMENT ON TABLE creditsd.history_rest IS
'Steps of days that have no partition: because it could not be opened in time, or because versions are ahead of the clock.';

CREATE TABLE creditsd.history_kept (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    days integer NOT NULL,
    whole_after bigint NOT NULL,
    upto bigint NOT NULL
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

COMMENT ON TABLE creditsd.history_kept IS 'One row, once history was on: how far back it goes.';
COMMENT ON COLUMN creditsd.history_kept.days IS 'How long steps are kept; also what is left of them after history was turned off.';
COMMENT ON COLUMN creditsd.history_kept.whole_after IS 'No version after this one, up to upto, is missing from history.';
COMMENT ON COLUMN creditsd.history_kept.upto IS 'The newest version that is a step; a newer total was stored with history off.';

ALTER TABLE creditsd.history ENABLE ROW LEVEL SECURITY;
ALTER TABLE creditsd.history_rest ENABLE ROW LEVEL SECURITY;

ALTER TABLE creditsd.deliveries
    ADD COLUMN in_order boolean NOT NULL DEFAULT false;

COMMENT ON COLUMN creditsd.deliveries.in_order IS
'The sink is told every step: later steps of this user wait behind this one, instead of taking its place.';
