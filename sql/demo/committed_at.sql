-- When the newest write to each user's rows was committed, by the server's own note.
SELECT
    c.user_id::text,
    extract(epoch FROM max(pg_xact_commit_timestamp(c.xmin)))::double precision
FROM public.user_credits AS c
WHERE c.user_id = ANY (%(user_ids)s::uuid[])
GROUP BY c.user_id
