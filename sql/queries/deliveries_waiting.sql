-- What waits at a sink: how many, how many of them dead, and in how many seconds the next try is due of those up to a
-- version.
SELECT
    count(*) FILTER (WHERE d.next_at IS NOT NULL),
    count(*) FILTER (WHERE d.next_at IS NULL),
    extract(epoch FROM min(d.next_at) FILTER (WHERE d.version <= %(upto)s) - clock_timestamp())::float8
FROM creditsd.deliveries AS d
WHERE d.sink = %(name)s
