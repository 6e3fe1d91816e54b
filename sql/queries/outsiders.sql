-- Objects of others that would go with ours.
SELECT DISTINCT pg_describe_object(d.classid, d.objid, 0)
FROM pg_depend AS d
JOIN pg_class AS c ON d.refclassid = 'pg_class'::regclass AND c.oid = d.refobjid
JOIN pg_rewrite AS r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
JOIN pg_class AS v ON v.oid = r.ev_class
WHERE c.relnamespace = 'creditsd'::regnamespace
AND v.relnamespace <> 'creditsd'::regnamespace
