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
    -- The table's deferred triggers, too, fire in here: at the end of the transaction, before 18, they would run as the daemon.
    SET CONSTRAINTS ALL IMMEDIATE;
    WITH empty AS (
        SELECT t.tableoid AS relation, t.ctid AS place
        FROM {table} AS t
        WHERE t.{user_id} = ANY (users)
        AND t.{status}::text = ANY ({active_statuses}::text[])
        AND {plan_type_value} = ANY ({one_time_types}::text[])
        AND {credits_value} = 0
        FOR UPDATE SKIP LOCKED
    )
    UPDATE {table} AS t
    SET {status} = {expired_status}::{status_type}
    FROM empty
    WHERE t.ctid = empty.place
    AND t.tableoid = empty.relation;
    -- Whatever path a trigger has left behind, the daemon's session goes on with its own.
    SET search_path = pg_catalog, pg_temp;
    -- Our own write marks nobody: whoever called sums these users up after it.
    DELETE FROM creditsd.changes AS c
    WHERE c.xid = pg_current_xact_id()
    AND c.user_id = ANY (users);
    RETURN true;
EXCEPTION
    WHEN OTHERS THEN
        RAISE WARNING 'creditsd could not expire empty one-time rows: %', SQLERRM;
        RETURN false;
END
$function$;

COMMENT ON FUNCTION creditsd.expire_empty IS
'Sets the expired status on active one-time rows with zero credits, except those that somebody holds; false where the table refused. Sum the users up afterwards: no change marks them.';
