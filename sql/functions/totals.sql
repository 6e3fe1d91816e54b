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
    changes_at timestamptz,
    empties bigint
);

COMMENT ON TYPE creditsd.total IS
'A total as the rows give it. changes_at: when time next ends or begins a row; empties: active one-time rows with zero credits that have begun.';

CREATE FUNCTION creditsd.totals(users {user_id_type}[], instant timestamptz, can_buy_policy text, expire_empty text)
RETURNS SETOF creditsd.total
LANGUAGE plpgsql
STABLE
ROWS 10
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET row_security = off
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $function$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT
        asked.user_id,
        trim_scale(coalesce(summed.credits, 0)::numeric),
        CASE WHEN summed.user_id IS NULL THEN 'none' ELSE (summed.first).membership_status END,
        CASE WHEN summed.user_id IS NULL THEN 'none' ELSE (summed.first).plan_type END,
        CASE can_buy_policy
            WHEN 'always' THEN true
            WHEN 'no_credits' THEN coalesce(summed.credits, 0) <= 0
            ELSE (summed.first).can_buy IS NOT FALSE
        END,
        summed.has_ever_had_subscription IS TRUE,
        (summed.first).subscription_id,
        (summed.first).membership,
        (summed.first).expires_at,
        summed.changes_at,
        coalesce(summed.empties, 0)
    FROM unnest(users) AS asked (user_id)
    LEFT JOIN (
        SELECT
            rated.user_id,
            -- The primary row comes first, if any counts. As a total of its own it says what the user has, but for the sums.
            (array_agg(
                CASE WHEN rated.counts THEN
                    ROW(
                        rated.user_id, rated.credits, 'active',
                        CASE WHEN rated.subscription THEN 'subscription' WHEN rated.one_time THEN 'one_time' ELSE 'none' END,
                        NOT rated.subscription, rated.subscription,
                        rated.subscription_id, rated.membership, rated.expires_at, rated.expires_at, 0
                    )::creditsd.total
                ELSE
                    ROW(rated.user_id, 0, 'expired', 'none', true, false, NULL, NULL, NULL, NULL, 0)::creditsd.total
                END
            ))[1] AS first,
            sum(rated.credits) FILTER (WHERE rated.counts) AS credits,
            bool_or(rated.subscription) AS has_ever_had_subscription,
            {changes_at} AS changes_at,
            count(*) FILTER (WHERE rated.active AND rated.empty{and_begun}) AS empties
        FROM (
            -- Not an outer join: below one, the rows of users nobody asked for may be read in our words as well, and what they
            -- hold may raise an error. One sort for the whole batch finds every user's primary row; an ordered aggregate would
            -- sort once a user.
            SELECT
                line.user_id,
                line.credits,
                line.active,
                line.subscription,
                line.one_time,
                line.empty,
                line.membership,
                line.subscription_id,
                line.starts_at,
                line.expires_at,
                creditsd.counts(line.active, line.empty, line.starts_at, line.expires_at, instant, expire_empty) AS counts
            FROM unnest(users) AS wanted (user_id)
            JOIN (
{source}
            ) AS line ON line.user_id = wanted.user_id
            ORDER BY
                line.user_id,
                counts DESC,
                line.subscription DESC,
                line.expires_at DESC NULLS FIRST,
                line.created_at DESC NULLS LAST,
                line.subscription_id,
                line.membership,
                line.one_time DESC
        ) AS rated
        GROUP BY rated.user_id
    ) AS summed ON summed.user_id = asked.user_id;
END
$function$;

COMMENT ON FUNCTION creditsd.totals IS
'The rules: the total of each asked user at an instant, of the rows that count (see creditsd.counts).';

-- For whoever reads without a snapshot to compare with: the table is locked first, because to one from before it is rewritten, it is empty.
CREATE FUNCTION creditsd.totals_now(users {user_id_type}[], can_buy_policy text, expire_empty text)
RETURNS SETOF creditsd.total
LANGUAGE plpgsql
VOLATILE
ROWS 10
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    LOCK TABLE {table} IN ACCESS SHARE MODE;
    RETURN QUERY
    SELECT t.*
    FROM creditsd.totals(users, clock_timestamp(), can_buy_policy, expire_empty) AS t;
END
$function$;

COMMENT ON FUNCTION creditsd.totals_now IS
'The total of each asked user as it is now.';
