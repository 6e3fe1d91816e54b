-- Of users who are told every step: the next step that the cursor has passed takes the place of the one that has arrived, and
-- is due at once.
UPDATE creditsd.deliveries AS d
SET version = following.version,
    attempt = 0,
    pulled_forward = false,
    next_at = now(),
    refused_at = now(),
    events_after = following.arrived,
    accepted = '{}'
FROM (
    SELECT a.user_id, a.version AS arrived, min(h.version) AS version
    FROM unnest(%(user_ids)s::text[]::creditsd.user_id[], %(versions)s::bigint[]) AS a (user_id, version)
    JOIN creditsd.history AS h ON h.user_id = a.user_id AND h.version > a.version
    WHERE h.version <= %(cursor)s
    GROUP BY a.user_id, a.version
) AS following
WHERE d.sink = %(name)s
AND d.user_id = following.user_id
AND d.version <= following.arrived
