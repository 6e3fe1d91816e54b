-- Which database our own tables stand in, and since which creation of theirs. A dump brings the rows back and not this: so that a dump restored
-- in its place, or a database made as a copy, is known, though server and time line are the same.
CREATE FUNCTION creditsd.home()
RETURNS text
LANGUAGE sql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT concat_ws(' ', d.oid, 'creditsd.reader'::regclass::oid)
    FROM pg_database AS d
    WHERE d.datname = current_database()
$function$;

COMMENT ON FUNCTION creditsd.home IS
'The oids of this database and of our table reader: where they differ from those noted, the rows are of another history.';
