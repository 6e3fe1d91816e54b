-- What is installed, if anything; no row where nothing is.
SELECT
    i.migration,
    i.digest,
    format_type(a.atttypid, -1) AS user_id_type
FROM creditsd.installation AS i
CROSS JOIN pg_attribute AS a
WHERE a.attrelid = 'creditsd.changes'::regclass
AND a.attname = 'user_id'
