-- What makes a total another one; bound and inlined as creditsd.counts is.
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
'Whether a total, as the rows give it now, says something else than the one that is stored.';
