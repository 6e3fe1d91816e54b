-- Auto-expire: the only write to the user's table. Waits for nobody: a row that is held is left for later.
CREATE FUNCTION creditsd.expire_empty(users {user_id_type}[])
RETURNS {user_id_type}[]
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET row_security = on -- for the table's deferred triggers, as in set_expired
SET enable_seqscan = off
SET lock_timeout = '100ms'
AS $function$
#variable_conflict use_column
DECLARE
    relations oid[];
    places tid[];
    of_users {user_id_type}[];
    refused {user_id_type}[] := ARRAY[]::{user_id_type}[];
BEGIN
    -- The table's deferred triggers, too, fire in here: at the end of the transaction, before 18, they would run as the daemon.
    SET CONSTRAINTS ALL IMMEDIATE;
    -- Before any row is held: whoever has locked the table and goes on to write its rows would wait for us, and we for them.
    LOCK TABLE {table} IN ROW EXCLUSIVE MODE;
    SELECT array_agg(empty.relation), array_agg(empty.place), array_agg(empty.user_id)
    INTO relations, places, of_users
    FROM (
        SELECT t.tableoid AS relation, t.ctid AS place, t.{user_id} AS user_id
        FROM {table} AS t
        WHERE t.{user_id} = ANY (expire_empty.users)
        AND t.{status}::text = ANY ({active_statuses}::text[])
        AND {plan_type_value} = ANY ({one_time_types}::text[])
        AND {credits_value} = 0
        AND ({starts_at_value} <= clock_timestamp()) IS NOT FALSE{and_asked_for_matches}
        FOR UPDATE SKIP LOCKED
    ) AS empty;
    IF places IS NULL THEN
        RETURN refused;
    END IF;
    BEGIN
        PERFORM creditsd.set_expired(relations, places);
    EXCEPTION
        WHEN lock_not_available THEN
            RAISE; -- what the table's own triggers want is held: one by one would hold the rows as many times as long
        WHEN OTHERS THEN
            -- One by one, so that the row that is refused stands alone.
            FOR i IN 1 .. cardinality(places) LOOP
                BEGIN
                    PERFORM creditsd.set_expired(relations[i:i], places[i:i]);
                EXCEPTION
                    WHEN OTHERS THEN
                        refused := refused || of_users[i];
                        PERFORM creditsd.note_problem(of_users[i], 'not expired', SQLERRM);
                END;
            END LOOP;
    END;
    -- Whatever path a trigger has left behind, the daemon's session goes on with its own.
    SET search_path = pg_catalog, pg_temp;
    -- Our own write marks nobody: whoever called sums these users up after it.
    DELETE FROM creditsd.changes AS c
    WHERE c.xid = pg_current_xact_id()
    AND c.user_id = ANY (expire_empty.users);
    RETURN refused;
EXCEPTION
    WHEN OTHERS THEN
        RAISE WARNING 'creditsd could not expire empty one-time rows: %', SQLERRM;
        RETURN expire_empty.users;
END
$function$;

COMMENT ON FUNCTION creditsd.expire_empty IS
'Sets the expired status on active one-time rows with zero credits, except those that somebody holds; returns the users of whom the table refused one, each noted in problems. Sum the users up afterwards: no change marks them.';
