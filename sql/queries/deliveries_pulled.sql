-- Try whoever waits at a sink now, because it is well again: but for those of whom it asked patience by itself, which is later than the
-- schedule says. Failing once more costs them no try. `delays` are the seconds after each failed try.
UPDATE creditsd.deliveries AS d
SET next_at = now(), attempt = GREATEST(d.attempt - 1, 0)
FROM unnest(%(delays)s::float8[]) WITH ORDINALITY AS delay (seconds, tries)
WHERE d.sink = %(name)s
AND d.next_at > clock_timestamp()
AND delay.tries = GREATEST(d.attempt, 1)
AND d.next_at <= d.tried_at + make_interval(secs => delay.seconds * 1.2)
RETURNING true
