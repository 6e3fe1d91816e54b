-- Our triggers on the table and on each of its partitions. A truncate trigger is not handed down, so each needs its own.
SELECT
    p.relid::oid AS relation,
    quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS name,
    p.level = 0 AS top,
    array_agg(t.tgname::text ORDER BY t.tgname) FILTER (WHERE t.tgname IS NOT NULL) AS triggers,
    coalesce(bool_and(t.tgenabled = 'A') FILTER (WHERE t.tgname IS NOT NULL), true) AS always
FROM (
    SELECT x.relid, x.level
    FROM pg_partition_tree(%(relation)s::oid::regclass) AS x
    UNION
    SELECT %(relation)s::oid::regclass, 0
) AS p
JOIN pg_class AS c ON c.oid = p.relid
JOIN pg_namespace AS n ON n.oid = c.relnamespace
LEFT JOIN pg_trigger AS t
    ON t.tgrelid = p.relid
    AND t.tgname = ANY (%(triggers)s)
GROUP BY p.relid, n.nspname, c.relname, p.level
ORDER BY p.level, name
