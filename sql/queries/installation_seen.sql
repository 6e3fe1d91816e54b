-- One installation at a glance: its version, its table, who leads, how many changes are unread (counted up to a limit), and for how long
-- the oldest total waits that a sink served by the leader has yet to be told.
SELECT
    i.migration,
    i.source ->> 'table',
    ({leader_pid}),
    (
        SELECT count(*)
        FROM (
            SELECT
            FROM ({users_changed}) AS unread
            LIMIT %(limit)s
        ) AS waiting
    ),
    (
        SELECT greatest(coalesce(max(extract(epoch FROM clock_timestamp()) - next.version / 1000000.0), 0), 0)::float8
        FROM creditsd.sinks AS s
        CROSS JOIN LATERAL (
            SELECT b.version
            FROM creditsd.balances AS b
            WHERE b.version > s.cursor
            ORDER BY b.version
            LIMIT 1
        ) AS next
        WHERE s.served_by = ({leader_pid})
    )
FROM creditsd.installation AS i
