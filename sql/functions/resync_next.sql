-- Everyone, a page at a time: whoever has rows, and whoever had.
CREATE FUNCTION creditsd.resync_next(max_users integer, can_buy_policy text, expire_empty text, empty_seconds double precision, event_policy jsonb, history_days integer)
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
    users {user_id_type}[];
    republishes boolean;
BEGIN
    SELECT r.resync_cause, r.resync_after, r.resync_republishes
    INTO cause, last_done, republishes
    FROM creditsd.reader AS r;
    users := creditsd.users_after(last_done::{user_id_type}, max_users);
    IF cause IS NOT NULL AND cardinality(users) > 0 THEN
        RETURN QUERY
        SELECT NULL::jsonb, t
        FROM creditsd.recompute(
            creditsd.keepable(users), 'backfill', can_buy_policy, expire_empty, empty_seconds, event_policy, republishes, history_days
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
