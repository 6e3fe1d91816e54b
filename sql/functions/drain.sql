-- One batch in one call, in five steps: read the next changes after a snapshot, heed what asks for everyone, recompute whom somebody
-- asked for, recompute those who changed, return the position. Where there is more to read than a page, a pass of many pages begins: a cursor
-- lists its users, each once, a page a row, and outlives this transaction. A page is fetched by its number, because a failed call
-- does not set a cursor back: repeated, it passes nobody by.
CREATE FUNCTION creditsd.drain(
    since pg_snapshot,
    upto pg_snapshot,
    pass_page integer,
    max_changes integer,
    can_buy_policy text,
    expire_empty text,
    empty_seconds double precision,
    event_policy jsonb,
    history_days integer
)
RETURNS TABLE (
    page jsonb,
    total creditsd.balances
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
    target pg_snapshot := coalesce(upto, pg_current_snapshot());
    first_new xid8 := pg_snapshot_xmax(since);
    ended xid8[] := ARRAY[]::xid8[];
    users {user_id_type}[];
    changes integer;
    listed refcursor := 'pass_users';
    has_more boolean := false;
    repaired {user_id_type}[] := ARRAY[]::{user_id_type}[];
    resync text;
    resyncing text;
    has_repairs boolean;
BEGIN
    -- 1. Read: those that began since, and those of transactions that were in progress then and have ended;
    IF upto IS NULL THEN
        users := ARRAY(
            SELECT c.user_id
            FROM creditsd.changes AS c
            WHERE c.xid >= first_new
            AND c.xid < pg_snapshot_xmax(target)
            AND pg_visible_in_snapshot(c.xid, target)
            ORDER BY c.xid, c.user_id
            LIMIT max_changes
        );
        IF pg_snapshot_xmin(since) < first_new THEN
            ended := ARRAY(SELECT x FROM pg_snapshot_xip(since) AS x WHERE pg_visible_in_snapshot(x, target));
            users := users || ARRAY(SELECT c.user_id FROM creditsd.changes AS c WHERE c.xid = ANY (ended) LIMIT max_changes);
        END IF;
        changes := cardinality(users);
    END IF;
    -- where they fill a page, list whom all of them concern, and begin with the first of those.
    IF upto IS NULL AND changes >= max_changes THEN
        IF EXISTS (SELECT FROM pg_cursors AS k WHERE k.name = 'pass_users') THEN
            CLOSE listed;
        END IF;
        EXECUTE format(
            'DECLARE pass_users SCROLL CURSOR WITH HOLD FOR
            SELECT array_agg(n.user_id ORDER BY n.user_id), sum(n.changes)
            FROM (
                SELECT m.user_id, count(*) AS changes, (row_number() OVER (ORDER BY m.user_id) - 1) / %s AS page
                FROM (
                    SELECT c.user_id FROM creditsd.changes AS c WHERE c.xid = ANY (%L::xid8[])
                    UNION ALL
                    SELECT c.user_id FROM creditsd.changes AS c WHERE c.xid >= %L AND c.xid < %L AND pg_visible_in_snapshot(c.xid, %L)
                ) AS m
                GROUP BY m.user_id
            ) AS n
            GROUP BY n.page
            ORDER BY n.page',
            max_changes, ended, first_new, pg_snapshot_xmax(target), target
        );
        pass_page := 1;
    END IF;
    IF pass_page IS NOT NULL THEN
        FETCH ABSOLUTE pass_page FROM listed INTO users, changes;
        MOVE NEXT FROM listed;
        has_more := FOUND;
        IF upto IS NULL AND NOT has_more THEN
            CLOSE listed;
        END IF;
    END IF;
    -- 2. Heed what asks for everyone.
    SELECT
        (
            SELECT s.cause
            FROM creditsd.resyncs AS s
            WHERE (s.xid >= first_new OR NOT pg_visible_in_snapshot(s.xid, since))
            AND pg_visible_in_snapshot(s.xid, target)
            LIMIT 1
        ),
        r.resync_cause,
        EXISTS (SELECT FROM creditsd.repairs)
    INTO resync, resyncing, has_repairs
    FROM creditsd.reader AS r;
    IF resync IS NOT NULL THEN
        PERFORM creditsd.begin_resync(resync);
        resyncing := resync;
        DELETE FROM creditsd.resyncs AS s
        WHERE pg_visible_in_snapshot(s.xid, target);
    END IF;
    -- 3. Recompute whom somebody asked to be told again: by the leader, in the order of versions, so that no publisher passes them by.
    IF has_repairs THEN
        WITH taken AS (
            DELETE FROM creditsd.repairs AS r
            WHERE r.user_id IN (SELECT a.user_id FROM creditsd.repairs AS a ORDER BY a.user_id LIMIT max_changes)
            RETURNING r.user_id
        )
        SELECT coalesce(array_agg(t.user_id), repaired)
        INTO repaired
        FROM taken AS t;
        RETURN QUERY
        SELECT NULL::jsonb, t
        FROM creditsd.recompute(repaired, 'repair', can_buy_policy, expire_empty, empty_seconds, event_policy, true, history_days) AS t;
    END IF;
    -- 4. Recompute those who changed.
    IF cardinality(users) > 0 THEN
        IF cardinality(users) > 1 OR has_repairs THEN
            users := ARRAY(
                SELECT DISTINCT u
                FROM unnest(users) AS u
                WHERE u <> ALL (repaired)
                ORDER BY u
            );
        END IF;
        RETURN QUERY
        SELECT NULL::jsonb, t
        FROM creditsd.recompute(users, 'change', can_buy_policy, expire_empty, empty_seconds, event_policy, false, history_days) AS t;
    END IF;
    -- 5. Say where the next page begins.
    page := jsonb_build_object(
        'snapshot', target,
        'full', has_more OR cardinality(repaired) >= max_changes,
        'pass_page', CASE WHEN has_more THEN pass_page + 1 END,
        'changes', changes,
        'users', cardinality(users),
        'resyncing', resyncing,
        'due_seconds', creditsd.due_seconds(),
        'clock', extract(epoch FROM clock_timestamp())
    );
    total := NULL;
    RETURN NEXT;
END
$function$;

COMMENT ON FUNCTION creditsd.drain IS
'Reads the changes that are visible now and not in since, and recomputes their users, and those in repairs. Where there are max_changes or more, lists their users, recomputes the first max_changes of them, and the next ones in later calls, with upto and pass_page as the call before returned them. Rows: the totals that changed, then one with the page.';
