-- The next totals after a version, in its order: what a publisher reads.
SELECT
    NULL::jsonb,
    b.user_id::text,
    b.version,
    b.updated_at,
    b.credits,
    b.membership_status,
    b.plan_type,
    b.can_buy,
    b.has_ever_had_subscription,
    b.subscription_id,
    b.membership,
    b.expires_at,
    b.cause,
    record_send(b.previous),
    b.events::text
FROM creditsd.balances AS b
WHERE b.version > %(version)s
ORDER BY b.version
LIMIT %(limit)s
