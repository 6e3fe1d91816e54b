-- A row may begin later, and a condition may leave it out: creditsd.source_rows returns both, and PostgreSQL adds no column to what a function
-- returns. It is made anew after this; meanwhile the view reads nothing, so that whatever others have built on the view stays.
DO $do$
BEGIN
    IF to_regclass('creditsd.source') IS NOT NULL THEN
        CREATE OR REPLACE VIEW creditsd.source AS
        SELECT
            NULL::{user_id_type} AS user_id,
            NULL::numeric AS credits,
            NULL::text AS status,
            NULL::boolean AS active,
            NULL::text AS plan_type,
            NULL::boolean AS subscription,
            NULL::boolean AS one_time,
            NULL::boolean AS empty,
            NULL::text AS membership,
            NULL::text AS subscription_id,
            NULL::timestamptz AS expires_at,
            NULL::timestamptz AS created_at
        WHERE false;
    END IF;
END
$do$;

DROP FUNCTION IF EXISTS creditsd.source_rows;
