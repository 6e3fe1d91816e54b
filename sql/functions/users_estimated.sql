-- About how many users there are: counted where that is quick, else from the statistics.
CREATE FUNCTION creditsd.users_estimated()
RETURNS bigint
LANGUAGE plpgsql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET row_security = off
AS $function$
BEGIN
    IF coalesce((SELECT c.reltuples FROM pg_class AS c WHERE c.oid = {table_literal}::regclass), -1) < 3000000 THEN
        RETURN (SELECT count(DISTINCT t.{user_id}) FROM {table} AS t);
    END IF;
    RETURN (
        SELECT GREATEST(1, CASE WHEN p.n_distinct < 0 THEN -p.n_distinct * c.reltuples ELSE p.n_distinct END)::bigint
        FROM pg_class AS c
        JOIN pg_namespace AS n ON n.oid = c.relnamespace
        JOIN pg_stats AS p ON p.schemaname = n.nspname AND p.tablename = c.relname
        WHERE c.oid = {table_literal}::regclass
        AND p.attname = {user_id_literal}
        ORDER BY p.inherited DESC
        LIMIT 1
    );
END
$function$;

COMMENT ON FUNCTION creditsd.users_estimated IS
'About how many users there are: counted where that is quick, else from the statistics.';
