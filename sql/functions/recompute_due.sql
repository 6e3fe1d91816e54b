-- The expiry timer has rung: recompute those whose time has come, the earliest first.
CREATE FUNCTION creditsd.recompute_due(max_users integer, can_buy_policy text, expire_empty text, empty_seconds double precision, event_policy jsonb, history_days integer)
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
    users {user_id_type}[] := ARRAY(
        SELECT b.user_id
        FROM creditsd.balances AS b
        WHERE b.recheck_at <= clock_timestamp()
        ORDER BY b.recheck_at
        LIMIT max_users
    );
BEGIN
    RETURN QUERY
    SELECT NULL::jsonb, t
    FROM creditsd.recompute(users, 'expiry', can_buy_policy, expire_empty, empty_seconds, event_policy, false, history_days) AS t;
    page := jsonb_build_object('users', cardinality(users), 'due_seconds', creditsd.due_seconds());
    total := NULL;
    RETURN NEXT;
END
$function$;

COMMENT ON FUNCTION creditsd.recompute_due IS
'Recomputes up to max_users whose recheck_at has passed. Rows: the totals that changed, then one with the page.';
