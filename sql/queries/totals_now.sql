-- The totals of certain users, computed now from the table; a version is the stored one, or 0.
SELECT
    NULL::jsonb,
    t.user_id::text,
    coalesce(b.version, 0),
    CASE
        WHEN b.version IS NULL AND t.membership_status = 'none' THEN timestamptz 'epoch'
        ELSE coalesce(b.updated_at, now())
    END,
    t.credits,
    t.membership_status,
    t.plan_type,
    t.can_buy,
    t.has_ever_had_subscription OR b.has_ever_had_subscription IS TRUE,
    t.subscription_id,
    t.membership,
    t.expires_at
FROM creditsd.totals(%(user_ids)s::text[]::{user_id_type}[], now(), %(can_buy)s, %(expire_empty)s) AS t
LEFT JOIN creditsd.balances AS b ON b.user_id = t.user_id
