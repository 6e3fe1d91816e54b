-- Other installations whose triggers stand on the table, and whether a daemon leads there; of the catalog alone, for they may be a stranger's.
SELECT
    n.nspname::text,
    EXISTS (
        SELECT
        FROM pg_locks AS l
        JOIN pg_class AS c ON c.oid = l.classid
        WHERE c.relnamespace = n.oid
        AND c.relname = 'changes'
        AND l.locktype = 'advisory'
        AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
        AND l.objid = 1249075342
        AND l.objsubid = 2
        AND l.granted
    ) AS led
FROM pg_namespace AS n
WHERE n.oid IS DISTINCT FROM to_regnamespace('creditsd')
AND n.nspname ~ '^[a-z_][a-z0-9_]*$'
AND EXISTS (
    SELECT
    FROM pg_trigger AS t
    JOIN pg_proc AS p ON p.oid = t.tgfoid
    WHERE t.tgrelid = %(relation)s
    AND p.pronamespace = n.oid
    AND p.proname IN ('capture_insert', 'capture_update', 'capture_delete')
)
AND EXISTS (SELECT FROM pg_class AS c WHERE c.relnamespace = n.oid AND c.relname = 'changes')
ORDER BY 1
