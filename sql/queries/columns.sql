-- The table's columns: name; the type beneath any domain, without a length, as it is written where pg_catalog alone is
-- searched, and by its bare name; the collation where it is not that type's usual one, and whether it calls different texts
-- equal; the labels of an enum; s where it is generated and stored, v where it is generated and virtual; the type with its length.
WITH RECURSIVE beneath AS (
    SELECT a.attnum, t.oid, t.typname, t.typnamespace, t.typtype, t.typbasetype, t.typcollation, t.typtypmod, a.atttypmod AS length
    FROM pg_attribute AS a
    JOIN pg_type AS t ON t.oid = a.atttypid
    WHERE a.attrelid = %(relation)s
    AND a.attnum > 0
    AND NOT a.attisdropped
    UNION ALL
    SELECT b.attnum, t.oid, t.typname, t.typnamespace, t.typtype, t.typbasetype, t.typcollation, t.typtypmod, b.typtypmod
    FROM beneath AS b
    JOIN pg_type AS t ON t.oid = b.typbasetype
    WHERE b.typtype = 'd'
)
SELECT
    a.attname::text,
    CASE
        WHEN n.nspname = 'pg_catalog' THEN format_type(b.oid, -1)
        ELSE quote_ident(n.nspname) || '.' || quote_ident(b.typname)
    END AS type,
    b.typname::text AS base,
    CASE WHEN a.attcollation <> b.typcollation THEN quote_ident(cn.nspname) || '.' || quote_ident(co.collname) END AS collation,
    co.collisdeterministic IS NOT FALSE AS deterministic,
    CASE WHEN b.typtype = 'e' THEN ARRAY(
        SELECT e.enumlabel::text FROM pg_enum AS e WHERE e.enumtypid = b.oid ORDER BY e.enumsortorder
    ) END AS labels,
    a.attgenerated::text AS generated,
    format_type(b.oid, b.length) AS declared
FROM pg_attribute AS a
JOIN beneath AS b ON b.attnum = a.attnum AND b.typtype <> 'd'
JOIN pg_namespace AS n ON n.oid = b.typnamespace
LEFT JOIN pg_collation AS co ON co.oid = a.attcollation
LEFT JOIN pg_namespace AS cn ON cn.oid = co.collnamespace
WHERE a.attrelid = %(relation)s
ORDER BY a.attnum
