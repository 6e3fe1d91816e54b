-- Which of certain users whoever leads has yet to tell of again.
SELECT r.user_id::text
FROM creditsd.repairs AS r
WHERE r.user_id = ANY (%(user_ids)s::text[]::creditsd.user_id[])
