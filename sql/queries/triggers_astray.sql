-- Our triggers on what is not the table any more: another one has its name, or a partition was detached.
WITH RECURSIVE tree AS (
    SELECT %(relation)s::oid AS relation
    UNION
    SELECT i.inhrelid
    FROM tree
    JOIN pg_inherits AS i ON i.inhparent = tree.relation
)
SELECT
    quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS relation,
    array_agg(t.tgname::text ORDER BY t.tgname) AS triggers
FROM pg_trigger AS t
JOIN pg_proc AS p ON p.oid = t.tgfoid
JOIN pg_class AS c ON c.oid = t.tgrelid
JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE p.pronamespace = to_regnamespace('creditsd')
AND t.tgparentid = 0
AND t.tgrelid NOT IN (SELECT tree.relation FROM tree)
GROUP BY n.nspname, c.relname
ORDER BY 1
