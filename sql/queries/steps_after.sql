-- The next steps after a version, in its order, then one row that says from where on none is missing: what a publisher
-- reads for a sink that is told every step. Where history does not reach back, the newest total stands for the steps.
WITH newest AS (
    SELECT b.version
    FROM creditsd.balances AS b
    ORDER BY b.version DESC
    LIMIT 1
),
kept AS (
    SELECT
        coalesce(
            (
                SELECT k.whole_after
                FROM creditsd.history_kept AS k
                WHERE k.upto >= (SELECT newest.version FROM newest)
            ),
            (SELECT newest.version FROM newest), -- it is no step: history was off when it was stored
            0
        ) AS whole_after
),
steps AS (
    (
        SELECT
            h.user_id, h.version, h.updated_at, h.credits, h.membership_status, h.plan_type, h.can_buy,
            h.has_ever_had_subscription, h.subscription_id, h.membership, h.expires_at, h.cause, record_send(h.previous) AS previous, h.events::text
        FROM creditsd.history AS h
        WHERE h.version > %(version)s
        ORDER BY h.version
        LIMIT %(limit)s
    )
    UNION ALL
    (
        SELECT
            b.user_id, b.version, b.updated_at, b.credits, b.membership_status, b.plan_type, b.can_buy,
            b.has_ever_had_subscription, b.subscription_id, b.membership, b.expires_at, b.cause, record_send(b.previous), b.events::text
        FROM creditsd.balances AS b
        WHERE b.version > %(version)s
        AND b.version <= (SELECT kept.whole_after FROM kept)
        AND NOT EXISTS (SELECT FROM creditsd.history AS h WHERE h.version = b.version AND h.version > %(version)s)
        ORDER BY b.version
        LIMIT %(limit)s
    )
)
(
    SELECT
        NULL::jsonb,
        s.user_id::text,
        s.version,
        s.updated_at,
        s.credits,
        s.membership_status,
        s.plan_type,
        s.can_buy,
        s.has_ever_had_subscription,
        s.subscription_id,
        s.membership,
        s.expires_at,
        s.cause,
        s.previous,
        s.events
    FROM steps AS s
    ORDER BY s.version
    LIMIT %(limit)s
)
UNION ALL
SELECT
    jsonb_build_object('whole_after', kept.whole_after),
    NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
FROM kept
