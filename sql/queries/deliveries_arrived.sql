-- Nothing waits any more of whoever has got what was refused, or a newer total. Returns who that is.
DELETE FROM creditsd.deliveries AS d
USING unnest(%(user_ids)s::text[]::creditsd.user_id[], %(versions)s::bigint[]) AS a (user_id, version)
WHERE d.sink = %(name)s
AND d.user_id = a.user_id
AND d.version <= a.version
RETURNING d.user_id::text
