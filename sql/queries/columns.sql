-- The table's columns: name, type as written, the name of the type beneath any domain, its kind, its collation where it
-- is not the usual one, and whether it can be compared.
WITH RECURSIVE beneath AS (
    SELECT a.attnum, t.oid, t.typname, t.typtype, t.typbasetype
    FROM pg_attribute AS a
    JOIN pg_type AS t ON t.oid = a.atttypid
    WHERE a.attrelid = %(relation)s
    AND a.attnum > 0
    AND NOT a.attisdropped
    UNION ALL
    SELECT b.attnum, t.oid, t.typname, t.typtype, t.typbasetype
    FROM beneath AS b
    JOIN pg_type AS t ON t.oid = b.typbasetype
    WHERE b.typtype = 'd'
)
SELECT
    a.attname::text,
    format_type(a.atttypid, a.atttypmod) AS type,
    b.typname::text AS base,
    b.typtype::text AS kind,
    CASE WHEN a.attcollation <> t.typcollation THEN quote_ident(cn.nspname) || '.' || quote_ident(co.collname) END AS collation,
    EXISTS (
        SELECT
        FROM pg_opclass AS k
        JOIN pg_am AS m ON m.oid = k.opcmethod AND m.amname = 'btree'
        WHERE k.opcdefault
        AND (k.opcintype = b.oid OR b.typtype = 'e' OR b.typname = 'varchar')
    ) AS comparable,
    CASE WHEN b.typtype = 'e' THEN ARRAY(
        SELECT e.enumlabel::text FROM pg_enum AS e WHERE e.enumtypid = b.oid ORDER BY e.enumsortorder
    ) END AS labels
FROM pg_attribute AS a
JOIN pg_type AS t ON t.oid = a.atttypid
JOIN beneath AS b ON b.attnum = a.attnum AND b.typtype <> 'd'
LEFT JOIN pg_collation AS co ON co.oid = a.attcollation
LEFT JOIN pg_namespace AS cn ON cn.oid = co.collnamespace
WHERE a.attrelid = %(relation)s
ORDER BY a.attnum
