-- What is installed, if anything; no row where nothing is.
SELECT
    i.migration,
    i.digest,
    format_type(a.atttypid, -1) AS user_id_type,
    CASE WHEN EXISTS (SELECT FROM pg_roles AS o WHERE o.rolname = i.role) THEN i.role ELSE '' END AS role
FROM creditsd.installation AS i
CROSS JOIN pg_attribute AS a
WHERE a.attrelid = 'creditsd.changes'::regclass
AND a.attname = 'user_id'
