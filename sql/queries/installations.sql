-- The schemas of this database that an install has made, and whether this role may read what is noted there; the scratch of a bench is none.
SELECT n.nspname::text, has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relname = 'installation'
AND c.relkind = 'r'
AND n.nspname <> 'creditsd_bench'
AND n.nspname ~ '^[a-z_][a-z0-9_]*$'
AND EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attname = 'digest')
AND EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attname = 'migration')
ORDER BY n.nspname
