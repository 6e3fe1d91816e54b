-- The comment on a schema of the scratch's name: whether it is one of ours that was left behind.
SELECT coalesce(obj_description(oid, 'pg_namespace'), '')
FROM pg_namespace
WHERE nspname = 'creditsd_bench'
