-- The whole of what a writer pays: one insert and one try-lock. The usual write leaves by EXIT before anything else is
-- set up: each variable, and each further expression, costs every writer. A WHEN of the trigger would cost more than all the rest
-- together, for PostgreSQL reads a stored condition anew for every statement. Looking once too often costs the daemon
-- little. What the column's name or type no longer fits is caught in here, and the insert stays outside, where it needs
-- no subtransaction of its own. CREATE OR REPLACE, because the triggers hold on to these.
CREATE OR REPLACE FUNCTION creditsd.capture_insert()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    <<unusual>>
    BEGIN
        BEGIN
            EXIT unusual WHEN NEW.{user_id}::{user_id_type} IS NOT NULL{and_new_fits};{log_new_unfit}
        EXCEPTION
            WHEN OTHERS THEN
                PERFORM creditsd.mark_everyone();
        END;
        {ring}
        RETURN NULL;
    END unusual;
    INSERT INTO creditsd.changes (user_id)
    VALUES (NEW.{user_id}::{user_id_type});
    {ring}
    RETURN NEW;
END
$function$;

COMMENT ON FUNCTION creditsd.capture_insert IS 'Marks the user of a new row.';

CREATE OR REPLACE FUNCTION creditsd.capture_update()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    <<unusual>>
    BEGIN
        BEGIN
            EXIT unusual WHEN OLD.{user_id}::{user_id_type} = NEW.{user_id}::{user_id_type}{and_new_fits};{log_new_unfit}
        EXCEPTION
            WHEN OTHERS THEN
                PERFORM creditsd.mark_everyone();
                {ring}
                RETURN NULL;
        END;
        INSERT INTO creditsd.changes (user_id)
        SELECT marked
        FROM unnest(ARRAY[NEW.{user_id}, OLD.{user_id}]::{user_id_type}[]) AS marked
        WHERE marked IS NOT NULL{and_marked_fits};
        {ring}
        RETURN NULL;
    END unusual;
    INSERT INTO creditsd.changes (user_id)
    VALUES (NEW.{user_id}::{user_id_type});
    {ring}
    RETURN NEW;
END
$function$;

COMMENT ON FUNCTION creditsd.capture_update IS
'Marks the user of a changed row, and the one it was taken from.';

CREATE OR REPLACE FUNCTION creditsd.capture_delete()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    <<unusual>>
    BEGIN
        BEGIN
            EXIT unusual WHEN OLD.{user_id}::{user_id_type} IS NOT NULL{and_old_fits};
        EXCEPTION
            WHEN OTHERS THEN
                PERFORM creditsd.mark_everyone();
        END;
        {ring}
        RETURN NULL;
    END unusual;
    INSERT INTO creditsd.changes (user_id)
    VALUES (OLD.{user_id}::{user_id_type});
    {ring}
    RETURN NULL;
END
$function$;

COMMENT ON FUNCTION creditsd.capture_delete IS 'Marks the user of a deleted row.';

CREATE OR REPLACE FUNCTION creditsd.capture_truncate()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    INSERT INTO creditsd.resyncs (cause)
    VALUES ('truncate');
    {ring}
    RETURN NULL;
END
$function$;

COMMENT ON FUNCTION creditsd.capture_truncate IS 'Marks everyone: the table was emptied.';

CREATE OR REPLACE FUNCTION creditsd.mark_everyone()
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    marked CONSTANT text := 'creditsd.marked_' || 'creditsd.resyncs'::regclass::oid;
BEGIN
    -- Once a transaction: a mark of another may be read, and be gone, before this one commits. Noted in a setting, which a savepoint takes
    -- back as it does the mark: to look into the table would have serializable writers fail because of one another.
    IF current_setting(marked, true) IS DISTINCT FROM pg_current_xact_id()::text THEN
        INSERT INTO creditsd.resyncs (cause)
        VALUES ('column changed');
        PERFORM set_config(marked, pg_current_xact_id()::text, true);
    END IF;
END
$function$;

COMMENT ON FUNCTION creditsd.mark_everyone IS
'Marks everyone, once a transaction, where a capture trigger does not find the user''s column any more, or it has become of another type: the application''s write passes all the same.';
