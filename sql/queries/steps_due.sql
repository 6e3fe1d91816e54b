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
    SELECT d.version AS refused_version, d.next_at, step
    FROM due AS d
    CROSS JOIN LATERAL (
        (
            SELECT {total_columns}
            FROM creditsd.history AS total
            WHERE total.user_id = d.user_id
            AND total.version >= d.version
            ORDER BY total.version
            LIMIT 1
        )
        UNION ALL
        SELECT {total_columns}
        FROM creditsd.balances AS total
        WHERE total.user_id = d.user_id
        AND total.version >= d.version
        ORDER BY version
        LIMIT 1
    ) AS step
)
(
    SELECT NULL::jsonb AS page, (f.step).*
    FROM found AS f
    ORDER BY f.next_at
)
UNION ALL
SELECT jsonb_build_object('missed', late.users), nothing.*
FROM (SELECT count(*) FILTER (WHERE (f.step).version <> f.refused_version) AS users FROM found AS f) AS late
LEFT JOIN (SELECT (f.step).* FROM found AS f) AS nothing ON false
