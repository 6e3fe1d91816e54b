-- How many one-time rows have expired, or ended, with credits in them, which count no more; how many credits; whose one is.
SELECT count(*), coalesce(sum(line.credits), 0), min(line.user_id::text)
FROM creditsd.source AS line
WHERE line.one_time
AND line.credits > 0
AND NOT line.left_out
AND NOT creditsd.counts(line.active, line.empty, line.starts_at, line.expires_at, now(), %(expire_empty)s)
AND (line.status = %(expired_status)s OR (line.active AND line.expires_at <= now()))
