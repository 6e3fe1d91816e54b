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
        SELECT {total_columns}
        FROM creditsd.history AS total
        WHERE total.version > %(version)s
        ORDER BY total.version
        LIMIT %(limit)s
    )
    UNION ALL
    (
        SELECT {total_columns}
        FROM creditsd.balances AS total
        WHERE total.version > %(version)s
        AND total.version <= (SELECT kept.whole_after FROM kept)
        AND NOT EXISTS (SELECT FROM creditsd.history AS h WHERE h.version = total.version AND h.version > %(version)s)
        ORDER BY total.version
        LIMIT %(limit)s
    )
),
page AS (
    SELECT s.*
    FROM steps AS s
    ORDER BY s.version
    LIMIT %(limit)s
)
SELECT NULL::jsonb AS page, p.*
FROM page AS p
UNION ALL
SELECT jsonb_build_object('whole_after', kept.whole_after), nothing.*
FROM kept
LEFT JOIN page AS nothing ON false
