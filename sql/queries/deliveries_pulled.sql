-- Try now, because the sink is well again, those who wait and of whom its illness may be to blame: their last try broke the receiver, or it
-- said nothing of a fault of theirs. Not those of whom it asked patience by itself, which is later than the schedule says. Each version
-- once, and that costs no try: without a bound, a sink that is ill again and again would try them for ever. At most so many; of rows that
-- somebody else is about to change it waits for none. `delays` are the seconds after each failed try.
WITH pulled AS (
    SELECT d.user_id
    FROM creditsd.deliveries AS d
    JOIN unnest(%(delays)s::float8[]) WITH ORDINALITY AS delay (seconds, tries) ON delay.tries = GREATEST(d.attempt, 1)
    WHERE d.sink = %(name)s
    AND d.next_at > clock_timestamp()
    AND d.next_at <= d.tried_at + make_interval(secs => delay.seconds * 1.2)
    AND (d.last_status IS NULL OR d.last_status >= 500)
    AND NOT d.pulled_forward
    ORDER BY d.next_at
    LIMIT %(limit)s
    FOR UPDATE OF d SKIP LOCKED
)
UPDATE creditsd.deliveries AS d
SET next_at = now(), attempt = GREATEST(d.attempt - 1, 0), pulled_forward = true
FROM pulled AS p
WHERE d.sink = %(name)s
AND d.user_id = p.user_id
RETURNING true
