-- Our triggers wherever they stand; those handed down to partitions go with their parent's.
SELECT
    quote_ident(n.nspname) || '.' || quote_ident(c.relname),
    t.tgname::text
FROM pg_trigger AS t
JOIN pg_proc AS p ON p.oid = t.tgfoid
JOIN pg_class AS c ON c.oid = t.tgrelid
JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE p.pronamespace = 'creditsd'::regnamespace
AND t.tgparentid = 0
ORDER BY 1, 2
