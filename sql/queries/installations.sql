-- The schemas of this database that look as an install has made them (the scratch of a bench is none), whether this role may read what is noted
-- there, and whose they are where that is a stranger. To read a stranger's would run what is put there, with the rights of whoever reads: a view, a
-- policy, the expression of an index. No strangers are this role, superusers, and the owner of our table, whom every command trusts.
WITH trusted AS (
    SELECT r.oid
    FROM pg_roles AS r
    WHERE r.rolsuper
    OR r.rolname = current_user
    OR r.oid = (
        SELECT c.relowner
        FROM pg_class AS c
        JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE n.nspname = %(schema)s
        AND c.relname = %(table)s
    )
)
SELECT
    n.nspname::text,
    has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT'),
    (
        SELECT min(pg_get_userbyid(o.owner)::text)
        FROM (
            SELECT n.nspowner AS owner
            UNION ALL
            SELECT r.relowner
            FROM pg_class AS r
            WHERE r.relnamespace = n.oid
            AND r.relname IN ('installation', 'changes', 'reader', 'sinks', 'balances')
        ) AS o
        WHERE o.owner NOT IN (SELECT t.oid FROM trusted AS t)
    )
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relname = 'installation'
AND c.relkind = 'r'
AND n.nspname NOT IN ('creditsd_bench', 'public')
AND n.nspname ~ '^[a-z_][a-z0-9_]*$'
AND EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attname = 'digest')
AND EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attname = 'migration')
ORDER BY n.nspname
