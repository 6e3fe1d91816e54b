-- Certain users: the version stored, whether what is stored is true now (null where it is), and both numbers of credits.
SELECT
    t.user_id::text,
    b.version,
    CASE
        WHEN b.version IS NULL AND t.membership_status = 'none' THEN NULL
        WHEN b.version IS NULL THEN 'missing'
        WHEN (
            b.credits, b.membership_status, b.plan_type, b.can_buy, b.has_ever_had_subscription, b.subscription_id,
            b.membership, b.expires_at
        ) IS DISTINCT FROM (
            t.credits, t.membership_status, t.plan_type, t.can_buy,
            t.has_ever_had_subscription OR b.has_ever_had_subscription, t.subscription_id, t.membership, t.expires_at
        ) THEN 'wrong'
    END AS drift,
    b.credits,
    t.credits
FROM creditsd.totals(%(user_ids)s::text[]::{user_id_type}[], now(), %(can_buy)s, %(expire_empty)s) AS t
LEFT JOIN creditsd.balances AS b ON b.user_id = t.user_id
