-- Who can be summed up, tried one by one: only after a batch as a whole has failed, because each try costs a subtransaction.
CREATE FUNCTION creditsd.summable(users {user_id_type}[], instant timestamptz, can_buy_policy text, expire_empty text)
RETURNS {user_id_type}[]
LANGUAGE plpgsql
VOLATILE
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    each_user {user_id_type};
    able {user_id_type}[] := ARRAY[]::{user_id_type}[];
BEGIN
    FOREACH each_user IN ARRAY creditsd.keepable(users) LOOP
        BEGIN
            PERFORM creditsd.totals(ARRAY[each_user], instant, can_buy_policy, expire_empty);
            able := able || each_user;
        EXCEPTION
            -- What the rows hold, not what the table is: that would be everyone's.
            WHEN data_exception OR program_limit_exceeded OR integrity_constraint_violation OR syntax_error OR invalid_name
                OR SQLSTATE '02000' OR cardinality_violation OR case_not_found OR plpgsql_error
            THEN
                PERFORM creditsd.note_problem(each_user, 'not summed', SQLERRM);
        END;
    END LOOP;
    RETURN able;
END
$function$;

COMMENT ON FUNCTION creditsd.summable IS
'Those of the users whose rows can be summed up; the others are noted in problems, and keep the total they have.';
