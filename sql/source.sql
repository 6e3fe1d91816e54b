-- The application's table in our words. A subquery of the functions that read it, not a view of the table: PL/pgSQL keeps no
-- dependency on what it reads, so the application may alter, rename and drop its columns as if we were not there.
SELECT
    t.{user_id} AS user_id,
    {credits_value} AS credits,
    t.{status}::text AS status,
    (t.{status}::text = ANY ({active_statuses}::text[]){and_matches}) IS TRUE AS active,
    {plan_type_value} AS plan_type,
    ({plan_type_value} = ANY ({subscription_types}::text[])) IS TRUE AS subscription,
    ({plan_type_value} = ANY ({one_time_types}::text[])) IS TRUE AS one_time,
    -- Below zero is a debt, which is not empty.
    ({plan_type_value} = ANY ({one_time_types}::text[]) AND {credits_value} = 0) IS TRUE AS empty,
    {membership_value} AS membership,
    {subscription_id_value} AS subscription_id,
    {expires_at_value} AS expires_at,
    {created_at_value} AS created_at,
    {starts_at_value} AS starts_at,
    {left_out} AS left_out
FROM {table} AS t
