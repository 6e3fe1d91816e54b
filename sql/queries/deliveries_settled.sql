-- A batch is through: what was refused waits for its next try, whoever got a total has nothing waiting any more, and the
-- cursor moves (unless somebody has set it meanwhile), all at once. Returns how many deliveries died with this. `delays`
-- are the pauses after each failed try. Where a sink is told every step, `in_order`, the next of a user's steps that the
-- cursor has passed takes the place of the one that arrived.
WITH refused AS (
    INSERT INTO creditsd.deliveries AS d (
        sink, user_id, version, attempt, next_at, last_status, last_error, in_order, events_after, accepted
    )
    SELECT
        %(name)s,
        r.user_id,
        r.version,
        1,
        now() + make_interval(secs => GREATEST(r.retry_after, (%(delays)s::float8[])[1] * (0.8 + 0.4 * random()))),
        r.status,
        r.reason,
        %(in_order)s,
        r.events_after,
        r.accepted
    FROM unnest(
        %(user_ids)s::text[]::creditsd.user_id[], %(versions)s::bigint[], %(statuses)s::integer[], %(reasons)s::text[],
        %(retry_afters)s::float8[], %(events_afters)s::bigint[], %(accepted)s::text[]::jsonb[]
    ) AS r (user_id, version, status, reason, retry_after, events_after, accepted)
    ON CONFLICT (sink, user_id) DO UPDATE
    SET version = excluded.version,
        attempt = CASE WHEN d.version = excluded.version THEN d.attempt + 1 ELSE 1 END,
        next_at = CASE
            WHEN d.version <> excluded.version THEN excluded.next_at
            ELSE now() + make_interval(secs => GREATEST(
                extract(epoch FROM excluded.next_at - now())::float8,
                (%(delays)s::float8[])[d.attempt + 1] * (0.8 + 0.4 * random())
            ) * CASE WHEN d.attempt < cardinality(%(delays)s::float8[]) THEN 1 END)
        END,
        last_status = excluded.last_status,
        last_error = excluded.last_error,
        accepted = d.accepted || excluded.accepted,
        refused_at = CASE WHEN d.version = excluded.version THEN d.refused_at ELSE now() END,
        tried_at = now()
    RETURNING d.next_at
),
following AS (
    UPDATE creditsd.deliveries AS d
    SET version = n.version, attempt = 0, next_at = now(), refused_at = now(), events_after = n.arrived, accepted = '{}'
    FROM (
        SELECT a.user_id, a.version AS arrived, min(h.version) AS version
        FROM unnest(%(arrived_ids)s::text[]::creditsd.user_id[], %(arrived_versions)s::bigint[]) AS a (user_id, version)
        JOIN creditsd.history AS h ON h.user_id = a.user_id AND h.version > a.version
        WHERE h.version <= %(cursor)s
        GROUP BY a.user_id, a.version
    ) AS n
    WHERE %(in_order)s
    AND d.sink = %(name)s
    AND d.user_id = n.user_id
    RETURNING d.user_id
),
arrived AS (
    DELETE FROM creditsd.deliveries AS d
    USING unnest(%(arrived_ids)s::text[]::creditsd.user_id[]) AS a (user_id)
    WHERE d.sink = %(name)s
    AND d.user_id = a.user_id
    AND NOT EXISTS (SELECT FROM following AS f WHERE f.user_id = d.user_id)
)
UPDATE creditsd.sinks
SET cursor = CASE WHEN cursor = %(saved)s THEN %(cursor)s ELSE cursor END,
    events_after = CASE WHEN cursor = %(saved)s THEN %(events_after)s ELSE events_after END,
    delivered = delivered + %(delivered)s,
    failing_since = CASE WHEN %(delivered)s = 0 THEN coalesce(failing_since, now()) END,
    saved_at = now()
WHERE name = %(name)s
RETURNING (SELECT count(*) FROM refused AS f WHERE f.next_at IS NULL)
