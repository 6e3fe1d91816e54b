-- The newest totals of those whose next try at a sink is due: whatever was refused, it is the newest that is tried.
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
FROM creditsd.deliveries AS d
JOIN creditsd.balances AS b ON b.user_id = d.user_id
WHERE d.sink = %(name)s
AND d.next_at <= clock_timestamp()
ORDER BY d.next_at
LIMIT %(limit)s
