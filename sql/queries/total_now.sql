-- One user's total, computed now from the table; its version is the stored one, which says the same unless news is on its way.
SELECT
    NULL::jsonb,
    t.user_id::text,
    coalesce(b.version, 0),
    CASE
        WHEN b.version IS NULL AND t.membership_status = 'none' THEN timestamptz 'epoch'
        WHEN (
            b.credits, b.membership_status, b.plan_type, b.can_buy, b.subscription_id, b.membership, b.expires_at
        ) IS NOT DISTINCT FROM (
            t.credits, t.membership_status, t.plan_type, t.can_buy, t.subscription_id, t.membership, t.expires_at
        ) THEN b.updated_at
        ELSE now()
    END,
    t.credits,
    t.membership_status,
    t.plan_type,
    t.can_buy,
    t.has_ever_had_subscription OR b.has_ever_had_subscription IS TRUE,
    t.subscription_id,
    t.membership,
    t.expires_at
FROM creditsd.totals(ARRAY[%(user_id)s::text::{user_id_type}], now(), %(can_buy)s, %(expire_empty)s) AS t
LEFT JOIN creditsd.balances AS b ON b.user_id = t.user_id
