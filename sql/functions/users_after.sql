-- Everyone, a page at a time, in the order of ids: whoever has rows, and whoever had. VOLATILE, so that the table is locked before
-- the snapshot is taken: to one from before it is rewritten, it is empty.
CREATE FUNCTION creditsd.users_after(last_user {user_id_type}, max_users integer)
RETURNS {user_id_type}[]
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET row_security = off
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $function$
BEGIN
    IF last_user IS NULL THEN
        RETURN ARRAY(
            SELECT both_sides.user_id
            FROM (
                (SELECT DISTINCT t.{user_id} AS user_id FROM {table} AS t WHERE t.{user_id} IS NOT NULL ORDER BY 1 LIMIT max_users)
                UNION
                (SELECT b.user_id FROM creditsd.balances AS b ORDER BY b.user_id LIMIT max_users)
            ) AS both_sides
            ORDER BY both_sides.user_id
            LIMIT max_users
        );
    END IF;
    RETURN ARRAY(
        SELECT both_sides.user_id
        FROM (
            (SELECT DISTINCT t.{user_id} AS user_id FROM {table} AS t WHERE t.{user_id} > last_user ORDER BY 1 LIMIT max_users)
            UNION
            (SELECT b.user_id FROM creditsd.balances AS b WHERE b.user_id > last_user ORDER BY b.user_id LIMIT max_users)
        ) AS both_sides
        ORDER BY both_sides.user_id
        LIMIT max_users
    );
END
$function$;

COMMENT ON FUNCTION creditsd.users_after IS
'The next max_users users after one (null: the first), in order: whoever has rows in the table, and whoever had.';
