-- Of each sink, how many refused deliveries wait for a next try, and how many are dead; counted up to a limit.
SELECT
    d.sink,
    count(*) FILTER (WHERE d.next_at IS NOT NULL),
    count(*) FILTER (WHERE d.next_at IS NULL)
FROM (SELECT e.sink, e.next_at FROM creditsd.deliveries AS e LIMIT %(limit)s) AS d
GROUP BY d.sink
