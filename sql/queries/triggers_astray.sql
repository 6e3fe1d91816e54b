-- Our triggers on what is not the table any more (another one has its name, or a partition was detached), and those that stand on it under another
-- name: it is the schema, or the trigger, that was renamed.
WITH RECURSIVE tree AS (
    SELECT %(relation)s::oid AS relation
    UNION
    SELECT i.inhrelid
    FROM tree
    JOIN pg_inherits AS i ON i.inhparent = tree.relation
)
SELECT
    quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS relation,
    t.tgrelid IN (SELECT tree.relation FROM tree) AS renamed,
    array_agg(t.tgname::text ORDER BY t.tgname) AS triggers
FROM pg_trigger AS t
JOIN pg_proc AS p ON p.oid = t.tgfoid
JOIN pg_class AS c ON c.oid = t.tgrelid
JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE p.pronamespace = to_regnamespace('creditsd')
AND t.tgparentid = 0
AND (
    t.tgrelid NOT IN (SELECT tree.relation FROM tree)
    OR t.tgname NOT IN ('creditsd_insert', 'creditsd_update', 'creditsd_delete', 'creditsd_truncate')
)
GROUP BY n.nspname, c.relname, t.tgrelid
ORDER BY 1
