CREATE FUNCTION creditsd.search_path_of_owner()
RETURNS text
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT coalesce(
        (
            SELECT substr(setting, length('search_path=') + 1)
            FROM pg_db_role_setting AS s
            CROSS JOIN LATERAL unnest(s.setconfig) AS setting
            WHERE s.setrole IN (0, (SELECT r.oid FROM pg_roles AS r WHERE r.rolname = {owner_literal}))
            AND s.setdatabase IN (0, (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database()))
            AND starts_with(setting, 'search_path=')
            ORDER BY s.setrole = 0, s.setdatabase = 0
            LIMIT 1
        ),
        (SELECT p.reset_val FROM pg_settings AS p WHERE p.name = 'search_path')
    )
$function$;

COMMENT ON FUNCTION creditsd.search_path_of_owner IS
'The search_path a session of the table''s owner begins with: of the role in this database, the role, the database or the server.';
