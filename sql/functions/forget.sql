-- Erases a user from every table of ours. Takes its turn with the recomputes, so none of them can store what is deleted here.
CREATE FUNCTION creditsd.forget(forgotten {user_id_type})
RETURNS TABLE (
    version bigint,
    balances integer,
    changes integer,
    deliveries integer,
    history integer,
    remaining bigint
)
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET row_security = off
SET plan_cache_mode = force_custom_plan
AS $function$
#variable_conflict use_column
BEGIN
    PERFORM pg_advisory_xact_lock('creditsd.balances'::regclass::oid::int4, 561984073);
    -- Whoever writes a line of the user now is through before the lines are deleted; whoever comes later finds no such user.
    -- Before any row is deleted: who removes a sink locks lines first, and then deliveries.
    LOCK TABLE creditsd.attempts IN SHARE ROW EXCLUSIVE MODE;
    DELETE FROM creditsd.changes AS c
    WHERE c.user_id = forgotten;
    GET DIAGNOSTICS changes = ROW_COUNT;
    DELETE FROM creditsd.repairs AS r
    WHERE r.user_id = forgotten;
    DELETE FROM creditsd.deliveries AS d
    WHERE d.user_id = forgotten;
    GET DIAGNOSTICS deliveries = ROW_COUNT;
    -- A request that told of several users names none, but the answer may: a short id counts as a word of its own alone.
    DELETE FROM creditsd.attempts AS a
    WHERE a.user_id = forgotten
    OR (
        a.user_id IS NULL
        AND strpos(lower(a.answer), lower(forgotten::text)) > 0
        AND (
            length(forgotten::text) >= 8
            OR strpos(
                ' ' || regexp_replace(lower(a.answer), '[^[:alnum:]]+', ' ', 'g') || ' ',
                ' ' || regexp_replace(lower(forgotten::text), '[^[:alnum:]]+', ' ', 'g') || ' '
            ) > 0
        )
    );
    DELETE FROM creditsd.history AS h
    WHERE h.user_id = forgotten;
    GET DIAGNOSTICS history = ROW_COUNT;
    -- The newest version may go with the user, and none is given twice.
    UPDATE creditsd.reader AS r
    SET version_floor = GREATEST(r.version_floor, (SELECT b.version FROM creditsd.balances AS b ORDER BY b.version DESC LIMIT 1));
    -- A resync notes the last user it has done, and goes on after it: the one before will do.
    UPDATE creditsd.reader AS r
    SET resync_after = (
        SELECT b.user_id::text
        FROM creditsd.balances AS b
        WHERE b.user_id < forgotten
        ORDER BY b.user_id DESC
        LIMIT 1
    )
    WHERE r.resync_after = forgotten::text;
    DELETE FROM creditsd.balances AS b
    WHERE b.user_id = forgotten
    RETURNING b.version INTO version;
    GET DIAGNOSTICS balances = ROW_COUNT;
    remaining := (SELECT count(*) FROM {table} AS t WHERE t.{user_id} = forgotten);
    RETURN NEXT;
END
$function$;

COMMENT ON FUNCTION creditsd.forget IS
'Erases a user: returns the version that was stored, how many rows of each table went, and how many rows the user still has in the source.';
