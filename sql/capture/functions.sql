-- The whole of what a writer pays: one insert and one try-lock. No column is compared: in a WHEN of the trigger that cost a
-- writer more than all the rest together (PostgreSQL reads a stored condition anew for every statement), in here nearly as
-- much, and looking once too often costs the daemon little. CREATE OR REPLACE, because the triggers hold on to these.
CREATE OR REPLACE FUNCTION creditsd.capture_insert()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    marked {user_id_type};
BEGIN
    BEGIN
        marked := NEW.{user_id};
    EXCEPTION
        WHEN OTHERS THEN
            PERFORM creditsd.mark_everyone();
    END;
    IF marked IS NOT NULL{and_marked_fits} THEN
        INSERT INTO creditsd.changes (user_id)
        VALUES (marked);
    END IF;{log_unfit}
    {ring}
    RETURN NULL;
END
$function$;

COMMENT ON FUNCTION creditsd.capture_insert IS 'Marks the user of a new row.';

CREATE OR REPLACE FUNCTION creditsd.capture_update()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    marked {user_id_type};
    left_behind {user_id_type};
BEGIN
    BEGIN
        marked := NEW.{user_id};
        left_behind := OLD.{user_id};
    EXCEPTION
        WHEN OTHERS THEN
            PERFORM creditsd.mark_everyone();
    END;
    IF marked IS NOT NULL{and_marked_fits} THEN
        INSERT INTO creditsd.changes (user_id)
        VALUES (marked);
    END IF;{log_unfit}
    IF (left_behind <> marked OR (left_behind IS NOT NULL AND marked IS NULL)){and_left_behind_fits} THEN
        INSERT INTO creditsd.changes (user_id)
        VALUES (left_behind);
    END IF;
    {ring}
    RETURN NULL;
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
DECLARE
    marked {user_id_type};
BEGIN
    BEGIN
        marked := OLD.{user_id};
    EXCEPTION
        WHEN OTHERS THEN
            PERFORM creditsd.mark_everyone();
    END;
    IF marked IS NOT NULL{and_marked_fits} THEN
        INSERT INTO creditsd.changes (user_id)
        VALUES (marked);
    END IF;{log_unfit}
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
BEGIN
    -- Once a transaction: a mark of another may be read, and be gone, before this one commits.
    IF NOT EXISTS (SELECT FROM creditsd.resyncs AS r WHERE r.xid = pg_current_xact_id()) THEN
        INSERT INTO creditsd.resyncs (cause)
        VALUES ('column changed');
    END IF;
END
$function$;

COMMENT ON FUNCTION creditsd.mark_everyone IS
'Marks everyone, once a transaction, where a capture trigger does not find the user''s column any more, or it has become of another type: the application''s write passes all the same.';
