-- Keep what a sink has refused, for its next try. `delays` are the seconds after each failed try of one version, give or
-- take a fifth; after the last of them a delivery is dead. A receiver may ask for a longer pause (`retry_after`). Returns of
-- each user which try it was, and in how many seconds the next one is due: null, never.
INSERT INTO creditsd.deliveries AS d (
    sink, user_id, version, attempt, next_at, last_status, last_error, in_order, events_after, accepted
)
SELECT
    %(name)s,
    r.user_id,
    r.version,
    failed.tries,
    now() + make_interval(
        secs => CASE WHEN delay.seconds IS NOT NULL THEN GREATEST(r.retry_after, delay.seconds * (0.8 + 0.4 * random())) END
    ),
    r.status,
    r.reason,
    %(in_order)s,
    r.events_after,
    r.accepted
FROM unnest(
    %(user_ids)s::text[]::creditsd.user_id[], %(versions)s::bigint[], %(statuses)s::integer[], %(reasons)s::text[],
    %(retry_afters)s::float8[], %(events_afters)s::bigint[], %(accepted)s::text[]::jsonb[]
) AS r (user_id, version, status, reason, retry_after, events_after, accepted)
LEFT JOIN creditsd.deliveries AS kept ON kept.sink = %(name)s AND kept.user_id = r.user_id
CROSS JOIN LATERAL (SELECT CASE WHEN kept.version = r.version THEN kept.attempt + 1 ELSE 1 END AS tries) AS failed
LEFT JOIN unnest(%(delays)s::float8[]) WITH ORDINALITY AS delay (seconds, tries) ON delay.tries = failed.tries
ON CONFLICT (sink, user_id) DO UPDATE
SET version = excluded.version,
    attempt = excluded.attempt,
    next_at = excluded.next_at,
    last_status = excluded.last_status,
    last_error = excluded.last_error,
    accepted = d.accepted || excluded.accepted,
    pulled_forward = d.pulled_forward AND d.version = excluded.version,
    refused_at = CASE WHEN d.version = excluded.version THEN d.refused_at ELSE now() END,
    tried_at = now()
RETURNING d.user_id::text, d.attempt, extract(epoch FROM d.next_at - now())::float8
