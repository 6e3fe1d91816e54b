-- How many totals lie after a version, counted up to a limit, and how many seconds ago the oldest of them was made.
SELECT
    count(*),
    greatest(coalesce(extract(epoch FROM clock_timestamp()) - min(waiting.version) / 1000000.0, 0), 0)::double precision
FROM (
    SELECT b.version
    FROM creditsd.balances AS b
    WHERE b.version > %(version)s
    ORDER BY b.version
    LIMIT %(limit)s
) AS waiting
