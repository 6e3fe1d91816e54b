-- The whole of what a writer pays: one insert and one try-lock. CREATE OR REPLACE, because the triggers hold on to them.
CREATE OR REPLACE FUNCTION creditsd.capture_new()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    INSERT INTO creditsd.changes (user_id)
    VALUES (NEW.{user_id});
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
BEGIN
    INSERT INTO creditsd.changes (user_id)
    VALUES (OLD.{user_id});
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

COMMENT ON FUNCTION creditsd.capture_everyone IS 'Marks everyone.';
