-- The step of each user whose next try at a sink is due, up to where its cursor is: the one that was refused, or the first
-- after it that is kept; then one row with how many were not kept for long enough.
WITH due AS (
    SELECT d.user_id, d.version, d.next_at
    FROM creditsd.deliveries AS d
    WHERE d.sink = %(name)s
    AND d.next_at <= clock_timestamp()
    AND d.version <= %(upto)s
    ORDER BY d.next_at
    LIMIT %(limit)s
),
found AS (
    SELECT
        d.user_id,
        d.version AS refused,
        d.next_at,
        s.*
    FROM due AS d
    CROSS JOIN LATERAL (
        (
            SELECT
                h.version, h.updated_at, h.credits, h.membership_status, h.plan_type, h.can_buy,
                h.has_ever_had_subscription, h.subscription_id, h.membership, h.expires_at, h.cause, record_send(h.previous) AS previous, h.events::text
            FROM creditsd.history AS h
            WHERE h.user_id = d.user_id
            AND h.version >= d.version
            ORDER BY h.version
            LIMIT 1
        )
        UNION ALL
        SELECT
            b.version, b.updated_at, b.credits, b.membership_status, b.plan_type, b.can_buy,
            b.has_ever_had_subscription, b.subscription_id, b.membership, b.expires_at, b.cause, record_send(b.previous), b.events::text
        FROM creditsd.balances AS b
        WHERE b.user_id = d.user_id
        AND b.version >= d.version
        ORDER BY version
        LIMIT 1
    ) AS s
)
(
    SELECT
        NULL::jsonb,
        f.user_id::text,
        f.version,
        f.updated_at,
        f.credits,
        f.membership_status,
        f.plan_type,
        f.can_buy,
        f.has_ever_had_subscription,
        f.subscription_id,
        f.membership,
        f.expires_at,
        f.cause,
        f.previous,
        f.events
    FROM found AS f
    ORDER BY f.next_at
)
UNION ALL
SELECT
    jsonb_build_object('missed', count(*) FILTER (WHERE f.version <> f.refused)),
    NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
FROM found AS f
