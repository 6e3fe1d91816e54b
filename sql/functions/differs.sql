-- What makes a total another one; all of these are bound and inlined as creditsd.counts is.
CREATE FUNCTION creditsd.differs(stored creditsd.balances, computed creditsd.total)
RETURNS boolean
LANGUAGE sql
IMMUTABLE
PARALLEL SAFE
RETURN (
    stored.credits, stored.membership_status, stored.plan_type, stored.can_buy, stored.has_ever_had_subscription,
    stored.subscription_id, stored.membership, stored.expires_at
) IS DISTINCT FROM (
    computed.credits, computed.membership_status, computed.plan_type, computed.can_buy,
    computed.has_ever_had_subscription OR stored.has_ever_had_subscription IS TRUE,
    computed.subscription_id, computed.membership, computed.expires_at
);

COMMENT ON FUNCTION creditsd.differs IS
'Whether a total, as the rows give it now, says something else than the one that is stored, but for its level.';

CREATE FUNCTION creditsd.level_differs(stored creditsd.balances, level text, low_credits numeric)
RETURNS boolean
LANGUAGE sql
IMMUTABLE
PARALLEL SAFE
RETURN stored.low_credits IS DISTINCT FROM low_credits
    OR (low_credits IS NOT NULL AND stored.level IS DISTINCT FROM level);

COMMENT ON FUNCTION creditsd.level_differs IS
'Whether a total says another level, or is low from another number on; of the level nothing is said where no threshold is set.';

CREATE FUNCTION creditsd.differs_now(stored creditsd.balances, computed creditsd.total, event_policy jsonb)
RETURNS boolean
LANGUAGE sql
IMMUTABLE
PARALLEL SAFE
RETURN creditsd.differs(stored, computed)
    OR creditsd.level_differs(stored, creditsd.level_now(stored, computed, event_policy), creditsd.low_told(event_policy));

COMMENT ON FUNCTION creditsd.differs_now IS
'Whether a total, as the rows give it now, says something else than the one that is stored, its level by a policy included.';
