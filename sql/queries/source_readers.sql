-- Who may read the rows in our words, beside the owner, and whether they may let others: who reads creditsd.source calls the function beneath it.
SELECT r.rolname::text, bool_or(a.is_grantable)
FROM pg_proc AS p
CROSS JOIN aclexplode(p.proacl) AS a
LEFT JOIN pg_roles AS r ON r.oid = a.grantee
WHERE p.pronamespace = (SELECT n.oid FROM pg_namespace AS n WHERE n.nspname = 'creditsd')
AND p.proname = 'source_rows'
AND a.privilege_type = 'EXECUTE'
AND a.grantee <> p.proowner
AND (a.grantee = 0 OR r.rolname IS NOT NULL)
GROUP BY r.rolname
