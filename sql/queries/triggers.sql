-- Our triggers on the table, on each of its partitions and on whatever inherits from it: what should be there, and how it is.
WITH RECURSIVE tree AS (
    SELECT %(relation)s::oid AS relation, 0 AS level
    UNION
    SELECT i.inhrelid, tree.level + 1
    FROM tree
    JOIN pg_inherits AS i ON i.inhparent = tree.relation
    JOIN pg_class AS c ON c.oid = i.inhrelid
    WHERE c.relpersistence <> 't'
)
SELECT
    quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS relation,
    c.relispartition AND r.level > 0 AS partition,
    wanted.name AS trigger,
    replace(wanted.function, 'capture_', '') AS event,
    t.tgparentid IS DISTINCT FROM 0 AND t.oid IS NOT NULL AS cloned,
    CASE
        WHEN t.oid IS NULL THEN 'missing'
        WHEN p.oid IS NULL THEN 'taken'
        WHEN p.proname <> wanted.function OR t.tgtype <> wanted.type OR t.tgqual IS NOT NULL OR cardinality(t.tgattr) > 0 THEN 'another'
        -- Put there before it was attached; the table's own could not be cloned beside it.
        WHEN c.relispartition AND r.level > 0 AND t.tgparentid = 0 AND wanted.type <> 32 THEN 'another'
        WHEN t.tgenabled = 'D' THEN 'disabled'
        WHEN t.tgenabled <> 'A' THEN 'conditional'
        ELSE 'right'
    END AS state
FROM (SELECT tree.relation, min(tree.level) AS level FROM tree GROUP BY tree.relation) AS r
JOIN pg_class AS c ON c.oid = r.relation
JOIN pg_namespace AS n ON n.oid = c.relnamespace
CROSS JOIN (
    VALUES
        ('creditsd_insert', 'capture_insert', 5),
        ('creditsd_update', 'capture_update', 17),
        ('creditsd_delete', 'capture_delete', 9),
        ('creditsd_truncate', 'capture_truncate', 32)
) AS wanted (name, function, type)
LEFT JOIN pg_trigger AS t
    ON t.tgrelid = r.relation
    AND t.tgname = wanted.name
LEFT JOIN pg_proc AS p
    ON p.oid = t.tgfoid
    AND p.pronamespace = to_regnamespace('creditsd')
WHERE c.relkind <> 'f'
ORDER BY r.level, 1, wanted.name
