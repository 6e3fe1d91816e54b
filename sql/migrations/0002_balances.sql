-- The newest total of each user.

CREATE TABLE creditsd.balances (
    user_id {user_id_type}{user_id_collation} PRIMARY KEY,
    version bigint NOT NULL,
    updated_at timestamptz NOT NULL,
    credits numeric NOT NULL,
    membership_status text NOT NULL CHECK (membership_status IN ('active', 'expired', 'none')),
    plan_type text NOT NULL CHECK (plan_type IN ('subscription', 'one_time', 'none')),
    can_buy boolean NOT NULL,
    has_ever_had_subscription boolean NOT NULL,
    subscription_id text,
    membership text,
    expires_at timestamptz,
    cause text NOT NULL,
    previous json,
    recheck_at timestamptz
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 1000);

CREATE UNIQUE INDEX balances_version ON creditsd.balances (version);
CREATE INDEX balances_recheck_at ON creditsd.balances (recheck_at) WHERE recheck_at IS NOT NULL;

COMMENT ON TABLE creditsd.balances IS 'The newest total of each user, written by creditsd alone.';
COMMENT ON COLUMN creditsd.balances.version IS
'Grows with every published change: greater than any before it, and at least the microseconds since 1970 when it was made.';
COMMENT ON COLUMN creditsd.balances.cause IS 'Why this version exists: change, expiry, auto-expire, backfill or repair.';
COMMENT ON COLUMN creditsd.balances.previous IS 'The total before this version; null for the first.';
COMMENT ON COLUMN creditsd.balances.recheck_at IS 'When time alone may change this total: the earliest end of a row that counts.';
COMMENT ON INDEX creditsd.balances_version IS 'The order in which publishers read.';
COMMENT ON INDEX creditsd.balances_recheck_at IS 'The expiry timer: the earliest is next.';

ALTER TABLE creditsd.balances ENABLE ROW LEVEL SECURITY;

CREATE POLICY balances_own ON creditsd.balances
    FOR SELECT
    USING (user_id::text = (SELECT NULLIF(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'));

COMMENT ON POLICY balances_own ON creditsd.balances IS
'A signed-in user (sub of request.jwt.claims, as PostgREST and Supabase set it) sees the own row.';
