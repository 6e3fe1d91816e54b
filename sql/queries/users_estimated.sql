-- About how many users there are: counted where that is quick, else from the statistics.
SELECT CASE
    WHEN coalesce(c.reltuples, -1) < 3000000 THEN (SELECT count(DISTINCT s.user_id) FROM creditsd.source AS s)
    ELSE GREATEST(1, (
        SELECT CASE WHEN p.n_distinct < 0 THEN -p.n_distinct * c.reltuples ELSE p.n_distinct END
        FROM pg_stats AS p
        WHERE p.schemaname = %(schema)s AND p.tablename = %(table)s AND p.attname = %(user_id)s
        ORDER BY p.inherited DESC
        LIMIT 1
    ))::bigint
END
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = %(schema)s AND c.relname = %(table)s
