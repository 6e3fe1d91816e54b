-- One user's rows: whether each counts, and why; the leader first.
SELECT
    s.credits,
    s.status,
    s.plan_type,
    s.membership,
    s.subscription_id,
    s.expires_at,
    s.created_at,
    s.active
    AND (s.expires_at IS NULL OR s.expires_at > now())
    AND (s.one_time AND s.credits <= 0 AND %(expire_empty)s = 'on') IS NOT TRUE AS counts,
    CASE
        WHEN s.status IS NULL THEN 'it has no status'
        WHEN NOT s.active THEN 'its status ' || quote_literal(s.status) || ' is not an active one'
        WHEN s.expires_at <= now() THEN 'it ended at ' || to_char(s.expires_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') || ' UTC'
        WHEN s.one_time AND s.credits <= 0 AND %(expire_empty)s = 'on' THEN 'it is a one-time plan without credits, about to be expired'
        WHEN s.credits IS NULL THEN 'it is active, but has no number of credits: it adds nothing'
        WHEN s.expires_at IS NULL THEN 'it is active and never ends'
        ELSE 'it is active until ' || to_char(s.expires_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') || ' UTC'
    END AS why
FROM creditsd.source AS s
WHERE s.user_id = %(user_id)s::text::{user_id_type}
ORDER BY
    counts DESC,
    s.subscription DESC,
    s.expires_at DESC NULLS FIRST,
    s.created_at DESC NULLS LAST,
    s.subscription_id,
    s.membership
LIMIT 1000
