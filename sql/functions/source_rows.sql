-- The application's table in our words, for whoever asks for rows. VOLATILE, as users_after. What is built on it stays through an install, so it is replaced in place.
CREATE OR REPLACE FUNCTION creditsd.source_rows(asked {user_id_type} DEFAULT NULL)
RETURNS TABLE (
    user_id {user_id_type},
    credits numeric,
    status text,
    active boolean,
    plan_type text,
    subscription boolean,
    one_time boolean,
    empty boolean,
    membership text,
    subscription_id text,
    expires_at timestamptz,
    created_at timestamptz,
    starts_at timestamptz,
    left_out boolean
)
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET row_security = off
AS $function$
#variable_conflict use_column
BEGIN
    IF asked IS NULL THEN
        RETURN QUERY
        SELECT
            line.user_id::{user_id_type}, line.credits::numeric, line.status, line.active, line.plan_type, line.subscription,
            line.one_time, line.empty, line.membership, line.subscription_id, line.expires_at, line.created_at,
            line.starts_at, line.left_out
        FROM (
{source}
        ) AS line;
    ELSE
        RETURN QUERY
        SELECT
            line.user_id::{user_id_type}, line.credits::numeric, line.status, line.active, line.plan_type, line.subscription,
            line.one_time, line.empty, line.membership, line.subscription_id, line.expires_at, line.created_at,
            line.starts_at, line.left_out
        FROM (
{source}
        ) AS line
        WHERE line.user_id = asked;
    END IF;
END
$function$;

COMMENT ON FUNCTION creditsd.source_rows IS
'The rows of one user, or (null) all rows, in creditsd''s words. An error where row level security would hide some.';

CREATE OR REPLACE VIEW creditsd.source AS
SELECT
    line.user_id,
    line.credits,
    line.status,
    line.active,
    line.plan_type,
    line.subscription,
    line.one_time,
    line.empty,
    line.membership,
    line.subscription_id,
    line.expires_at,
    line.created_at,
    line.starts_at,
    line.left_out
FROM creditsd.source_rows() AS line;

COMMENT ON VIEW creditsd.source IS
'The table of credits in creditsd''s words: its columns, active (of an active status, and not left out), subscription, one_time and empty (a one-time row with zero credits), an end that never comes as null, left_out (by source.where). Reads the whole table; creditsd.source_rows(user_id) reads one user''s rows by an index. Nothing here keeps the application from altering its table.';
