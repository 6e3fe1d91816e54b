-- How many users have made steps after a version that are not kept any more, or never were: their newest total is none of
-- those kept, or the one before a step that is kept is not.
SELECT count(DISTINCT missing.user_id)
FROM (
    SELECT b.user_id, b.version
    FROM creditsd.balances AS b
    WHERE b.version > %(version)s
    AND b.version <= %(whole_after)s
    UNION ALL
    SELECT h.user_id, (h.previous).version
    FROM creditsd.history AS h
    WHERE h.version > %(version)s
    AND (h.previous).version > %(version)s
    AND (h.previous).version <= %(whole_after)s
) AS missing
WHERE NOT EXISTS (SELECT FROM creditsd.history AS h WHERE h.version = missing.version AND h.version > %(version)s)
