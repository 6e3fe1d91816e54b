-- Whose the schema of our name and its table of what is installed are, where that is somebody we would not install for: no superuser, not the role that
-- installs, and not the owner of the table, which it may have been before: then a trigger of ours on it fires always, which only its owner can have it do.
SELECT pg_get_userbyid(o.owner)::text
FROM (
    SELECT n.nspowner AS owner
    FROM pg_namespace AS n
    WHERE n.oid = to_regnamespace('creditsd')
    UNION ALL
    SELECT c.relowner
    FROM pg_class AS c
    WHERE c.oid = to_regclass('creditsd.installation')
) AS o
JOIN pg_roles AS r ON r.oid = o.owner
WHERE NOT r.rolsuper
AND r.rolname <> current_user
AND r.oid <> (SELECT c.relowner FROM pg_class AS c WHERE c.oid = %(relation)s)
AND NOT EXISTS (
    SELECT
    FROM pg_trigger AS t
    JOIN pg_proc AS p ON p.oid = t.tgfoid
    WHERE t.tgrelid = %(relation)s
    AND t.tgenabled = 'A'
    AND p.pronamespace = to_regnamespace('creditsd')
    AND p.proowner = o.owner
)
LIMIT 1
