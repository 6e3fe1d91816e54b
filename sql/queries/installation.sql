-- What is installed, if anything; no row where nothing is.
SELECT
    i.migration,
    i.digest,
    format_type(a.atttypid, -1) AS user_id_type,
    CASE WHEN a.attcollation <> t.typcollation THEN quote_ident(n.nspname) || '.' || quote_ident(c.collname) END AS user_id_collation,
    CASE WHEN EXISTS (SELECT FROM pg_roles AS o WHERE o.rolname = i.role) THEN i.role ELSE '' END AS role,
    i.source,
    to_jsonb(i) ->> 'functions' AS functions, -- an older schema has no such column
    to_regprocedure('creditsd.functions_digest(boolean)') IS NOT NULL AS functions_told
FROM creditsd.installation AS i
CROSS JOIN pg_attribute AS a
JOIN pg_type AS t ON t.oid = a.atttypid
LEFT JOIN pg_collation AS c ON c.oid = a.attcollation
LEFT JOIN pg_namespace AS n ON n.oid = c.collnamespace
WHERE a.attrelid = 'creditsd.changes'::regclass
AND a.attname = 'user_id'
