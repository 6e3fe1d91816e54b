-- What has happened to a user beside a new total, and which sink has yet to be told of it.

ALTER TABLE creditsd.balances
    ADD COLUMN level text CHECK (level IN ('low', 'depleted')),
    ADD COLUMN events jsonb,
    ADD COLUMN ends_told timestamptz[];

COMMENT ON COLUMN creditsd.balances.level IS
'depleted: no credits. low: at or below low_credits, or not yet back at recovered_credits. Null: neither.';
COMMENT ON COLUMN creditsd.balances.events IS
'What has happened and still stands: each type of event with the version that brought it and what belongs to it. credits.updated is there only where this version brought no new total, and says which one did.';
COMMENT ON COLUMN creditsd.balances.ends_told IS 'The ends of the primary row that plan.expiring_soon has been about, but for those long past.';
COMMENT ON COLUMN creditsd.balances.recheck_at IS
'When time alone may change this total or make its end one that comes soon: the earliest of the two.';
COMMENT ON COLUMN creditsd.reader.policy IS 'can_buy, expire_empty and events in force; a change recomputes everyone.';

ALTER TABLE creditsd.sinks
    ADD COLUMN events_after bigint;

COMMENT ON COLUMN creditsd.sinks.events_after IS
'Whatever happened up to this version has been told there. Behind cursor while the sink catches up: a total further on may still carry what happened before. Null: the same as cursor.';

ALTER TABLE creditsd.deliveries
    ADD COLUMN events_after bigint NOT NULL DEFAULT 0,
    ADD COLUMN accepted jsonb NOT NULL DEFAULT '{{}}';

COMMENT ON COLUMN creditsd.deliveries.events_after IS
'Whatever happened to this user up to this version had been told before the first refusal; stays when a newer total takes the row over.';
COMMENT ON COLUMN creditsd.deliveries.accepted IS
'What the sink has taken since: each type of event with the version that brought it. It is not told again.';
