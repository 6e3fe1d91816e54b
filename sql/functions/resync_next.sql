-- Everyone, a page at a time: whoever has rows, and whoever had.
CREATE FUNCTION creditsd.resync_next(max_users integer, can_buy_policy text, expire_empty text, event_policy jsonb, history_days integer)
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
    cause text;
    last_done text;
    after_user {user_id_type};
    users {user_id_type}[];
    republishes boolean;
BEGIN
    SELECT r.resync_cause, r.resync_after, r.resync_republishes
    INTO cause, last_done, republishes
    FROM creditsd.reader AS r;
    IF last_done IS NULL THEN
        users := ARRAY(
            SELECT both_sides.user_id
            FROM (
                (SELECT DISTINCT s.user_id FROM creditsd.source AS s WHERE s.user_id IS NOT NULL ORDER BY s.user_id LIMIT max_users)
                UNION
                (SELECT b.user_id FROM creditsd.balances AS b ORDER BY b.user_id LIMIT max_users)
            ) AS both_sides
            ORDER BY both_sides.user_id
            LIMIT max_users
        );
    ELSE
        after_user := last_done;
        users := ARRAY(
            SELECT both_sides.user_id
            FROM (
                (SELECT DISTINCT s.user_id FROM creditsd.source AS s WHERE s.user_id > after_user ORDER BY s.user_id LIMIT max_users)
                UNION
                (SELECT b.user_id FROM creditsd.balances AS b WHERE b.user_id > after_user ORDER BY b.user_id LIMIT max_users)
            ) AS both_sides
            ORDER BY both_sides.user_id
            LIMIT max_users
        );
    END IF;
    IF cause IS NOT NULL AND cardinality(users) > 0 THEN
        RETURN QUERY
        SELECT NULL::jsonb, t
        FROM creditsd.recompute(
            users, 'backfill', can_buy_policy, expire_empty, event_policy, republishes, history_days
        ) AS t;
    END IF;
    IF cardinality(users) < max_users THEN
        UPDATE creditsd.reader SET resync_cause = NULL, resync_after = NULL, resync_republishes = false;
    ELSE
        UPDATE creditsd.reader SET resync_after = users[max_users]::text, resync_users = resync_users + max_users;
    END IF;
    page := jsonb_build_object(
        'users', cardinality(users),
        'done', cardinality(users) < max_users,
        'due_seconds', creditsd.due_seconds()
    );
    total := NULL;
    RETURN NEXT;
END
$function$;

COMMENT ON FUNCTION creditsd.resync_next IS
'Recomputes the next max_users users of the resync under way and notes how far it came; where it republishes, each gets a new version. Rows: the totals that changed, then one with the page.';
