-- The user's table in our words. Everything else speaks of this view alone.
CREATE VIEW creditsd.source AS
SELECT
    t.{user_id} AS user_id,
    {credits_value} AS credits,
    t.{status}::text AS status,
    (t.{status}::text = ANY ({active_statuses}::text[])) IS TRUE AS active,
    {plan_type_value} AS plan_type,
    ({plan_type_value} = ANY ({subscription_types}::text[])) IS TRUE AS subscription,
    ({plan_type_value} = ANY ({one_time_types}::text[])) IS TRUE AS one_time,
    -- Below zero is a debt, which is not empty.
    ({plan_type_value} = ANY ({one_time_types}::text[]) AND {credits_value} = 0) IS TRUE AS empty,
    {membership_value} AS membership,
    {subscription_id_value} AS subscription_id,
    {expires_at_value} AS expires_at,
    {created_at_value} AS created_at
FROM {table} AS t;

COMMENT ON VIEW creditsd.source IS
'The table of credits in creditsd''s words: its columns, active, subscription, one_time and empty (a one-time row with zero credits), an end that never comes as null. Drop it to alter those columns, then run "creditsd install".';
