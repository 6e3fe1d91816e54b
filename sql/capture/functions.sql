-- The whole of what a writer pays: one insert and one try-lock. CREATE OR REPLACE, because the triggers hold on to them.
CREATE OR REPLACE FUNCTION creditsd.capture_new()
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
        WHEN undefined_column THEN
            -- The column was renamed. The application's write passes all the same; everyone is looked at again.
            PERFORM creditsd.mark_everyone();
            RETURN NULL;
    END;
    INSERT INTO creditsd.changes (user_id)
    VALUES (marked);
    {ring}
    RETURN NULL;
END
$function$;

COMMENT ON FUNCTION creditsd.capture_new IS 'Marks the user of the new row.';

CREATE OR REPLACE FUNCTION creditsd.capture_old()
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
        WHEN undefined_column THEN
            -- The column was renamed. The application's write passes all the same; everyone is looked at again.
            PERFORM creditsd.mark_everyone();
            RETURN NULL;
    END;
    INSERT INTO creditsd.changes (user_id)
    VALUES (marked);
    {ring}
    RETURN NULL;
END
$function$;

COMMENT ON FUNCTION creditsd.capture_old IS 'Marks the user of the old row.';

CREATE OR REPLACE FUNCTION creditsd.capture_everyone()
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

COMMENT ON FUNCTION creditsd.capture_everyone IS 'Marks everyone: the table was emptied.';

CREATE OR REPLACE FUNCTION creditsd.mark_everyone()
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    IF NOT EXISTS (SELECT FROM creditsd.resyncs AS r WHERE r.cause = 'column renamed') THEN
        INSERT INTO creditsd.resyncs (cause)
        VALUES ('column renamed');
    END IF;
END
$function$;

COMMENT ON FUNCTION creditsd.mark_everyone IS 'Marks everyone, once, where a capture trigger does not find its column any more.';
