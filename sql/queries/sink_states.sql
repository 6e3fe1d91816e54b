-- Each sink the database knows: how far it is, what waits, what it refused, each counted up to a limit, why it stands
-- still, and whether the daemon that leads delivers there.
SELECT
    s.name,
    (
        SELECT count(*)
        FROM (SELECT FROM creditsd.balances AS b WHERE b.version > s.cursor LIMIT %(limit)s) AS newer
    ) AS queue,
    s.delivered,
    (
        SELECT count(*)
        FROM (
            SELECT FROM creditsd.deliveries AS d WHERE d.sink = s.name AND d.next_at IS NOT NULL LIMIT %(limit)s
        ) AS waiting
    ) AS refused,
    (
        SELECT count(*)
        FROM (SELECT FROM creditsd.deliveries AS d WHERE d.sink = s.name AND d.next_at IS NULL LIMIT %(limit)s) AS dead
    ) AS dead,
    s.paused_at,
    s.disabled_reason,
    s.last_error,
    s.last_error_at,
    s.cursor,
    s.saved_at,
    s.failing_since IS NOT NULL AS refusing,
    coalesce(s.served_by = ({leader_pid}), false) AS served
FROM creditsd.sinks AS s
ORDER BY s.name
