-- The stored totals of certain users, in the order of versions.
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
    b.expires_at
FROM creditsd.balances AS b
WHERE b.user_id = ANY(%(user_ids)s::text[]::{user_id_type}[])
ORDER BY b.version
