-- Who may put a trigger on the table, or on what is below it, beside its owner and whoever may become that role: it runs as whoever writes,
-- and so as the owner, where a row is expired.
WITH RECURSIVE tree AS (
    SELECT c.oid AS relation, c.relowner AS owner
    FROM pg_class AS c
    WHERE c.oid = %(relation)s::oid
    UNION
    SELECT i.inhrelid, tree.owner
    FROM tree
    JOIN pg_inherits AS i ON i.inhparent = tree.relation
)
SELECT DISTINCT
    coalesce(quote_ident(r.rolname), 'PUBLIC') AS maker,
    pg_get_userbyid(tree.owner)::text AS owner
FROM tree
JOIN pg_class AS c ON c.oid = tree.relation
CROSS JOIN aclexplode(c.relacl) AS a
LEFT JOIN pg_roles AS r ON r.oid = a.grantee
WHERE a.privilege_type = 'TRIGGER'
AND (a.grantee = 0 OR NOT pg_has_role(r.oid, tree.owner, 'MEMBER'))
ORDER BY 1
