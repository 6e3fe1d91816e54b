-- What makes a total another one; bound and inlined as creditsd.counts is.
CREATE FUNCTION creditsd.differs(stored creditsd.balances, computed creditsd.total, level text, low_credits numeric)
RETURNS boolean
LANGUAGE sql
IMMUTABLE
PARALLEL SAFE
RETURN (
    stored.credits, stored.membership_status, stored.plan_type, stored.can_buy, stored.has_ever_had_subscription,
    stored.subscription_id, stored.membership, stored.expires_at,
    stored.low_credits, CASE WHEN stored.low_credits IS NOT NULL THEN stored.level END
) IS DISTINCT FROM (
    computed.credits, computed.membership_status, computed.plan_type, computed.can_buy,
    computed.has_ever_had_subscription OR stored.has_ever_had_subscription IS TRUE,
    computed.subscription_id, computed.membership, computed.expires_at,
    low_credits, CASE WHEN low_credits IS NOT NULL THEN level END
);

COMMENT ON FUNCTION creditsd.differs IS
'Whether a total, as the rows give it now, says something else than the one that is stored; of its level where low_credits is told.';

CREATE FUNCTION creditsd.differs_now(stored creditsd.balances, computed creditsd.total, event_policy jsonb)
RETURNS boolean
LANGUAGE sql
IMMUTABLE
PARALLEL SAFE
RETURN creditsd.differs(
    stored, computed, creditsd.level_now(stored, computed, event_policy), creditsd.low_told(event_policy)
);

COMMENT ON FUNCTION creditsd.differs_now IS
'Whether a total, as the rows give it now, says something else than the one that is stored, by the thresholds of a policy.';
