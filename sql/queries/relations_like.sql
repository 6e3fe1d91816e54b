-- What the table might have meant to be called.
SELECT
    n.nspname::text,
    c.relname::text
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', 'creditsd')
ORDER BY 1, 2
LIMIT 1000
