-- Deletes changes that are read for good, a bounded step at a time: finds them between two snapshots, as creditsd.drain does, deletes
-- them, and remembers where it stopped, so that rows a long transaction keeps from vacuum are never stepped over again.
CREATE FUNCTION creditsd.purge(upto pg_snapshot, after_xid xid8, after_user {user_id_type}, max_changes integer)
RETURNS TABLE (
    snapshot pg_snapshot,
    next_xid xid8,
    next_user {user_id_type},
    deleted integer
)
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $function$
#variable_conflict use_column
DECLARE
    since pg_snapshot;
    first_new xid8;
    room integer := max_changes;
    running xid8;
    last_xid xid8 := after_xid;
    last_user {user_id_type} := after_user;
    places tid[] := ARRAY[]::tid[];
    page_places tid[];
    page_xids xid8[];
    page_users {user_id_type}[];
BEGIN
    -- Never beyond the saved cursor, whoever asks.
    SELECT
        r.purged,
        CASE WHEN pg_snapshot_xmax(upto) <= pg_snapshot_xmax(r.snapshot) THEN upto ELSE r.snapshot END
    INTO since, snapshot
    FROM creditsd.reader AS r;
    IF NOT FOUND THEN
        -- Nothing has been read yet; what the next statement would see is another matter.
        deleted := 0;
        RETURN NEXT;
        RETURN;
    END IF;
    first_new := pg_snapshot_xmax(since);
    FOR running IN
        SELECT x
        FROM pg_snapshot_xip(since) AS x
        WHERE after_xid IS NULL OR x >= after_xid
        ORDER BY x
    LOOP
        EXIT WHEN room <= 0;
        CONTINUE WHEN NOT pg_visible_in_snapshot(running, snapshot);
        SELECT array_agg(n.ctid), array_agg(n.user_id)
        INTO page_places, page_users
        FROM (
            SELECT c.ctid, c.user_id
            FROM creditsd.changes AS c
            WHERE c.xid = running
            AND (running IS DISTINCT FROM after_xid OR c.user_id >= after_user)
            ORDER BY c.user_id
            LIMIT room
        ) AS n;
        IF cardinality(page_places) > 0 THEN
            room := room - cardinality(page_places);
            places := places || page_places;
            last_xid := running;
            last_user := page_users[cardinality(page_users)];
        END IF;
    END LOOP;
    IF room > 0 THEN
        IF last_xid IS NULL OR last_xid < first_new THEN
            SELECT array_agg(n.ctid), array_agg(n.xid), array_agg(n.user_id)
            INTO page_places, page_xids, page_users
            FROM (
                SELECT c.ctid, c.xid, c.user_id
                FROM creditsd.changes AS c
                WHERE c.xid >= first_new
                AND c.xid < pg_snapshot_xmax(snapshot)
                AND pg_visible_in_snapshot(c.xid, snapshot)
                ORDER BY c.xid, c.user_id
                LIMIT room
            ) AS n;
        ELSE
            -- From the last pair on, not after it: a pair may stand more than once.
            SELECT array_agg(n.ctid), array_agg(n.xid), array_agg(n.user_id)
            INTO page_places, page_xids, page_users
            FROM (
                SELECT c.ctid, c.xid, c.user_id
                FROM creditsd.changes AS c
                WHERE (c.xid, c.user_id) >= (last_xid, last_user)
                AND c.xid < pg_snapshot_xmax(snapshot)
                AND pg_visible_in_snapshot(c.xid, snapshot)
                ORDER BY c.xid, c.user_id
                LIMIT room
            ) AS n;
        END IF;
        IF cardinality(page_places) > 0 THEN
            room := room - cardinality(page_places);
            places := places || page_places;
            last_xid := page_xids[cardinality(page_xids)];
            last_user := page_users[cardinality(page_users)];
        END IF;
    END IF;
    DELETE FROM creditsd.changes AS c
    WHERE c.ctid = ANY (places);
    deleted := max_changes - room;
    IF room > 0 THEN
        UPDATE creditsd.reader SET purged = purge.snapshot; -- bare, it would be the column
        next_xid := NULL;
        next_user := NULL;
    ELSE
        next_xid := last_xid;
        next_user := last_user;
    END IF;
    RETURN NEXT;
END
$function$;

COMMENT ON FUNCTION creditsd.purge IS
'Deletes up to max_changes changes that are visible in upto (the saved cursor, where null) and not yet purged, from a position; next_xid is null when the pass is complete.';
