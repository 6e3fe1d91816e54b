CREATE FUNCTION creditsd.note_problem(whose {user_id_type}, what text, why text)
RETURNS void
LANGUAGE plpgsql
VOLATILE
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    INSERT INTO creditsd.problems AS p (user_id, problem, reason)
    VALUES (whose, what, why)
    ON CONFLICT (user_id, problem) DO UPDATE
    SET reason = excluded.reason,
        seen_at = now();
    RAISE WARNING 'creditsd sets % aside (%): %', whose, what, why;
END
$function$;

COMMENT ON FUNCTION creditsd.note_problem IS 'Notes in problems, and in a warning, why a user is set aside.';
