-- A function that lends its rights, and would lend those of somebody else than the owner of the table; no row where there is none.
SELECT p.proname::text, pg_get_userbyid(p.proowner)::text, pg_get_userbyid(c.relowner)::text
FROM pg_proc AS p
JOIN pg_class AS c ON c.oid = %(relation)s
WHERE p.pronamespace = 'creditsd'::regnamespace
AND p.prosecdef
AND p.proowner <> c.relowner
ORDER BY p.proname
LIMIT 1
