-- Ask whoever leads to tell of certain users again; return for whom that was not asked already.
INSERT INTO creditsd.repairs (user_id)
SELECT asked.user_id
FROM unnest(%(user_ids)s::text[]::creditsd.user_id[]) AS asked (user_id)
ON CONFLICT DO NOTHING
RETURNING user_id::text
