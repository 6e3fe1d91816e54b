-- The next totals after a version, in its order: what a publisher reads.
SELECT
    NULL::jsonb AS page,
    {total_columns}
FROM creditsd.balances AS total
WHERE total.version > %(version)s
ORDER BY total.version
LIMIT %(limit)s
