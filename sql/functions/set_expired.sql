-- The table's own triggers look names up as they do when its owner writes. So must this statement, whose every function and operator
-- therefore says where it comes from.
CREATE FUNCTION creditsd.set_expired(relations oid[], places tid[])
RETURNS void
LANGUAGE plpgsql
VOLATILE
SET search_path = pg_catalog, pg_temp
SET row_security = on -- whoever calls may have it off, which would fail what the table's own triggers do
SET enable_seqscan = off
AS $function$
BEGIN
    PERFORM set_config('search_path', 'pg_catalog, ' || creditsd.search_path_of_owner(), true);
    UPDATE {table} AS t
    SET {status} = {expired_status} -- a bare word: whatever type the column has, or gets, reads it
    FROM ROWS FROM (pg_catalog.unnest(relations), pg_catalog.unnest(places)) AS empty (relation, place)
    WHERE t.ctid OPERATOR(pg_catalog.=) empty.place
    AND t.tableoid OPERATOR(pg_catalog.=) empty.relation;
END
$function$;

COMMENT ON FUNCTION creditsd.set_expired IS
'Sets the expired status on rows by their place, with the search_path the owner of the table has. Called by creditsd.expire_empty.';
