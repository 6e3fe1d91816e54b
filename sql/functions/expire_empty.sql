-- Auto-expire: the only write to the user's table. Waits for nobody: a row that is held is left for later.
CREATE FUNCTION creditsd.expire_empty(users {user_id_type}[])
RETURNS boolean
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET lock_timeout = '100ms'
AS $function$
BEGIN
    -- Tells our own trigger to mark nobody. As a SET of the function only a superuser could install it.
    PERFORM set_config('creditsd.expiring', 'on', true);
    WITH empty AS (
        SELECT t.tableoid AS relation, t.ctid AS place
        FROM {table} AS t
        WHERE t.{user_id} = ANY (users)
        AND t.{status}::text = ANY ({active_statuses}::text[])
        AND {plan_type_value} = ANY ({one_time_types}::text[])
        AND {credits_value} <= 0
        FOR UPDATE SKIP LOCKED
    )
    UPDATE {table} AS t
    SET {status} = {expired_status}::{status_type}
    FROM empty
    WHERE t.ctid = empty.place
    AND t.tableoid = empty.relation;
    PERFORM set_config('creditsd.expiring', '', true);
    RETURN true;
EXCEPTION
    WHEN OTHERS THEN
        RAISE WARNING 'creditsd could not expire empty one-time rows: %', SQLERRM;
        RETURN false;
END
$function$;

COMMENT ON FUNCTION creditsd.expire_empty IS
'Sets the expired status on active one-time rows without credits, except those that somebody holds; false where the table refused.';
