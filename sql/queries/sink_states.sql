-- Each sink the database knows: how it is, how far (its queue counted up to a limit), what it refused, why it stands still.
SELECT
    s.name,
    CASE
        WHEN s.disabled_reason IS NOT NULL THEN 'disabled'
        WHEN s.paused_at IS NOT NULL THEN 'paused'
        WHEN s.last_error IS NOT NULL THEN 'failing'
        WHEN waiting.queue > 0 THEN 'behind'
        ELSE 'current'
    END AS state,
    waiting.queue,
    s.delivered,
    (SELECT count(*) FROM creditsd.deliveries AS d WHERE d.sink = s.name AND d.next_at IS NOT NULL) AS refused,
    (SELECT count(*) FROM creditsd.deliveries AS d WHERE d.sink = s.name AND d.next_at IS NULL) AS dead,
    s.paused_at,
    s.disabled_reason,
    s.last_error,
    s.last_error_at,
    s.cursor
FROM creditsd.sinks AS s
CROSS JOIN LATERAL (
    SELECT count(*) AS queue
    FROM (SELECT FROM creditsd.balances AS b WHERE b.version > s.cursor LIMIT %(limit)s) AS newer
) AS waiting
ORDER BY s.name
