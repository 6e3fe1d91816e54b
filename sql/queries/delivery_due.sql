-- In how many seconds the next try at a sink is due, of the deliveries up to a version. No row where none waits.
SELECT extract(epoch FROM d.next_at - clock_timestamp())::float8
FROM creditsd.deliveries AS d
WHERE d.sink = %(name)s
AND d.next_at IS NOT NULL
AND d.version <= %(upto)s
ORDER BY d.next_at
LIMIT 1
