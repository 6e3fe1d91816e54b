-- Keep what was sent to a sink, but for what names users who are forgotten by now, and no more than so many of its newest (those of this call come on top).
WITH kept AS (
    INSERT INTO creditsd.attempts (sink, at, user_id, users, webhook_id, status, milliseconds, result, answer)
    SELECT
        %(sink)s, a.at, a.user_id::creditsd.user_id, a.users, a.webhook_id, a.status, a.milliseconds, a.result, a.answer
    FROM unnest(
        %(at)s::timestamptz[], %(user_ids)s::text[], %(users)s::integer[], %(webhook_ids)s::text[], %(statuses)s::integer[],
        %(milliseconds)s::integer[], %(results)s::text[], %(answers)s::text[], %(named)s::text[]
    ) WITH ORDINALITY AS a (at, user_id, users, webhook_id, status, milliseconds, result, answer, named, place)
    WHERE (a.user_id IS NULL OR EXISTS (SELECT FROM creditsd.balances AS b WHERE b.user_id = a.user_id::creditsd.user_id))
    AND NOT EXISTS (
        SELECT
        FROM jsonb_array_elements_text(a.named::jsonb) AS n (user_id)
        WHERE NOT EXISTS (SELECT FROM creditsd.balances AS b WHERE b.user_id = n.user_id::creditsd.user_id)
    )
    ORDER BY a.place
)
DELETE FROM creditsd.attempts AS old
WHERE old.sink = %(sink)s
AND old.number <= (
    SELECT a.number
    FROM creditsd.attempts AS a
    WHERE a.sink = %(sink)s
    ORDER BY a.number DESC
    OFFSET %(most)s
    LIMIT 1
)
