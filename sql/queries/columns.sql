-- The table's columns: name, type as written anywhere (our functions search pg_catalog alone), the type beneath any domain
-- by its name, its kind, and as written without a length; the collation where it is not the usual one, whether that can
-- call different texts equal, and whether two values can be compared.
WITH RECURSIVE beneath AS (
    SELECT a.attnum, t.oid, t.typname, t.typnamespace, t.typtype, t.typbasetype, t.typcollation
    FROM pg_attribute AS a
    JOIN pg_type AS t ON t.oid = a.atttypid
    WHERE a.attrelid = %(relation)s
    AND a.attnum > 0
    AND NOT a.attisdropped
    UNION ALL
    SELECT b.attnum, t.oid, t.typname, t.typnamespace, t.typtype, t.typbasetype, t.typcollation
    FROM beneath AS b
    JOIN pg_type AS t ON t.oid = b.typbasetype
    WHERE b.typtype = 'd'
)
SELECT
    a.attname::text,
    CASE
        WHEN tn.nspname = 'pg_catalog' THEN format_type(a.atttypid, a.atttypmod)
        ELSE quote_ident(tn.nspname) || '.' || quote_ident(t.typname)
    END AS type,
    b.typname::text AS base,
    b.typtype::text AS kind,
    CASE
        WHEN bn.nspname = 'pg_catalog' THEN format_type(b.oid, -1)
        ELSE quote_ident(bn.nspname) || '.' || quote_ident(b.typname)
    END AS base_type,
    CASE WHEN a.attcollation <> b.typcollation THEN quote_ident(cn.nspname) || '.' || quote_ident(co.collname) END AS collation,
    coalesce(co.collisdeterministic, true) AS deterministic,
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
JOIN pg_namespace AS tn ON tn.oid = t.typnamespace
JOIN beneath AS b ON b.attnum = a.attnum AND b.typtype <> 'd'
JOIN pg_namespace AS bn ON bn.oid = b.typnamespace
LEFT JOIN pg_collation AS co ON co.oid = a.attcollation
LEFT JOIN pg_namespace AS cn ON cn.oid = co.collnamespace
WHERE a.attrelid = %(relation)s
ORDER BY a.attnum
