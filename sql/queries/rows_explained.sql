-- One user's rows: whether each counts, and why; whether it is a pack that has expired with credits left; the leader first.
SELECT
    line.credits,
    line.status,
    line.plan_type,
    line.membership,
    line.subscription_id,
    CASE WHEN isfinite(line.starts_at) THEN line.starts_at END AS starts_at,
    line.expires_at,
    line.created_at,
    line.counts,
    CASE
        WHEN line.left_out THEN 'it is left out by source.where'
        WHEN line.status IS NULL THEN 'it has no status'
        WHEN NOT line.active THEN 'its status ' || quote_literal(line.status) || ' is not an active one'
        WHEN line.expires_at <= now() THEN
            'it ended at ' || to_char(line.expires_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') || ' UTC'
        WHEN line.starts_at >= line.expires_at THEN 'it ends before it starts'
        WHEN line.starts_at = 'infinity' THEN 'it never starts'
        WHEN line.starts_at > now() THEN
            'it starts at ' || to_char(line.starts_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') || ' UTC'
        WHEN NOT line.counts THEN 'it is a one-time plan without credits, about to be expired'
        WHEN line.credits IS NULL THEN 'it is active, but has no number of credits: it adds nothing'
        WHEN line.expires_at IS NULL THEN 'it is active and never ends'
        ELSE 'it is active until ' || to_char(line.expires_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') || ' UTC'
    END || CASE WHEN line.left_over THEN '; ' || trim_scale(line.credits)::text || ' credits are left in it' ELSE '' END AS why,
    line.left_over
FROM (
    SELECT
        found.*,
        coalesce(
            found.one_time AND found.credits > 0 AND NOT found.counts AND NOT found.left_out
            AND (found.status = %(expired_status)s OR found.active AND found.expires_at <= now()),
            false
        ) AS left_over
    FROM (
        SELECT r.*, creditsd.counts(r.active, r.empty, r.starts_at, r.expires_at, now(), %(expire_empty)s) AS counts
        FROM creditsd.source_rows(%(user_id)s::text::creditsd.user_id) AS r
    ) AS found
) AS line
ORDER BY
    line.counts DESC,
    line.subscription DESC,
    line.expires_at DESC NULLS FIRST,
    line.created_at DESC NULLS LAST,
    line.subscription_id,
    line.membership,
    line.one_time DESC
LIMIT 1000
