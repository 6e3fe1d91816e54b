-- The rules, once: each asked user's total at an instant, from the rows as they are. Writes nothing.
CREATE TYPE creditsd.total AS (
    user_id {user_id_type},
    credits numeric,
    membership_status text,
    plan_type text,
    can_buy boolean,
    has_ever_had_subscription boolean,
    subscription_id text,
    membership text,
    expires_at timestamptz,
    ends_at timestamptz,
    empties bigint
);

COMMENT ON TYPE creditsd.total IS
'A total as the rows give it. ends_at: when the first counting row ends; empties: active one-time rows without credits.';

CREATE FUNCTION creditsd.totals(users {user_id_type}[], instant timestamptz, can_buy_policy text, expire_empty text)
RETURNS SETOF creditsd.total
LANGUAGE plpgsql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $function$
BEGIN
    RETURN QUERY
    SELECT
        asked.user_id,
        coalesce(held.credits, 0),
        CASE
            WHEN held.counting > 0 THEN 'active'
            WHEN held.rows > 0 THEN 'expired'
            ELSE 'none'
        END,
        CASE
            WHEN (held.leader).subscription THEN 'subscription'
            WHEN (held.leader).one_time THEN 'one_time'
            ELSE 'none'
        END,
        CASE can_buy_policy
            WHEN 'always' THEN true
            WHEN 'no_credits' THEN coalesce(held.credits, 0) <= 0
            ELSE held.counting_subscriptions = 0
        END,
        held.subscriptions > 0,
        (held.leader).subscription_id,
        (held.leader).membership,
        (held.leader).expires_at,
        held.ends_at,
        held.empties
    FROM unnest(users) AS asked (user_id)
    CROSS JOIN LATERAL (
        SELECT
            count(*) AS rows,
            count(*) FILTER (WHERE judged.counts) AS counting,
            count(*) FILTER (WHERE judged.counts AND (judged.line).subscription) AS counting_subscriptions,
            count(*) FILTER (WHERE (judged.line).subscription) AS subscriptions,
            count(*) FILTER (WHERE judged.empty) AS empties,
            trim_scale(sum((judged.line).credits) FILTER (WHERE judged.counts)) AS credits,
            min((judged.line).expires_at) FILTER (WHERE judged.counts) AS ends_at,
            (array_agg(
                judged.line
                ORDER BY
                    (judged.line).subscription DESC,
                    (judged.line).expires_at DESC NULLS FIRST,
                    (judged.line).created_at DESC NULLS LAST,
                    (judged.line).subscription_id,
                    (judged.line).membership
            ) FILTER (WHERE judged.counts))[1] AS leader
        FROM (
            SELECT
                line,
                line.active
                AND (line.expires_at IS NULL OR line.expires_at > instant)
                AND NOT (emptied.yes AND expire_empty = 'on') AS counts,
                emptied.yes AS empty
            FROM creditsd.source AS line
            CROSS JOIN LATERAL (
                SELECT (line.active AND line.one_time AND line.credits <= 0) IS TRUE AS yes
            ) AS emptied
            WHERE line.user_id = asked.user_id
        ) AS judged
    ) AS held;
END
$function$;

COMMENT ON FUNCTION creditsd.totals IS
'The rules: the total of each asked user at an instant. With expire_empty = on an empty one-time row has ceased to count before its status says so.';
