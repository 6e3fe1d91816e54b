-- Foreign tables below the table: triggers see what is written through this server, not what is written at theirs.
WITH RECURSIVE tree AS (
    SELECT %(relation)s::oid AS relation
    UNION
    SELECT i.inhrelid
    FROM tree
    JOIN pg_inherits AS i ON i.inhparent = tree.relation
)
SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS relation
FROM tree
JOIN pg_class AS c ON c.oid = tree.relation
JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind = 'f'
ORDER BY 1
