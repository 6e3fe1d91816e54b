-- What the thresholds say of credits. All of these are bound and inlined as creditsd.counts is.
CREATE FUNCTION creditsd.low_at(event_policy jsonb)
RETURNS numeric
LANGUAGE sql
IMMUTABLE
PARALLEL SAFE
RETURN (event_policy ->> 'low_credits')::numeric;

COMMENT ON FUNCTION creditsd.low_at IS
'At so many credits or fewer a user is low.';

CREATE FUNCTION creditsd.recovered_at(event_policy jsonb)
RETURNS numeric
LANGUAGE sql
IMMUTABLE
PARALLEL SAFE
RETURN GREATEST((event_policy ->> 'low_credits')::numeric, (event_policy ->> 'recovered_credits')::numeric);

COMMENT ON FUNCTION creditsd.recovered_at IS
'At so many credits whoever was low is low no more; where it is low_at itself, above it.';

-- A daemon from before totals told of it runs on through an install, and does not ask for it: what it publishes would lack what is stored.
CREATE FUNCTION creditsd.low_told(event_policy jsonb)
RETURNS numeric
LANGUAGE sql
IMMUTABLE
PARALLEL SAFE
RETURN CASE WHEN event_policy ? 'tells_level' AND creditsd.recovered_at(event_policy) > 0 THEN creditsd.low_at(event_policy) END;

COMMENT ON FUNCTION creditsd.low_told IS
'What a total says as low_credits; null where no threshold is set, or whoever asks tells of none.';

CREATE FUNCTION creditsd.level_of(credits numeric, before text, low_at numeric, recovered_at numeric)
RETURNS text
LANGUAGE sql
IMMUTABLE
PARALLEL SAFE
RETURN CASE
    WHEN credits <= 0 THEN 'depleted'
    WHEN credits <= low_at OR (credits < recovered_at AND before IS NOT NULL) THEN 'low'
END;

COMMENT ON FUNCTION creditsd.level_of IS
'depleted, low or null, for so many credits of somebody who stood at a level before.';

-- The old credits by today's thresholds come first, as in creditsd.recompute.
CREATE FUNCTION creditsd.level_now(stored creditsd.balances, computed creditsd.total, event_policy jsonb)
RETURNS text
LANGUAGE sql
IMMUTABLE
PARALLEL SAFE
RETURN creditsd.level_of(
    computed.credits,
    creditsd.level_of(stored.credits, stored.level, creditsd.low_at(event_policy), creditsd.recovered_at(event_policy)),
    creditsd.low_at(event_policy),
    creditsd.recovered_at(event_policy)
);

COMMENT ON FUNCTION creditsd.level_now IS
'The level of a total as the rows give it now, after the one that is stored.';
