-- Our functions as they are: whoever replaced one by hand is noticed. Without comments, only what would compute differently counts.
CREATE FUNCTION creditsd.functions_digest(comments boolean)
RETURNS text
LANGUAGE sql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT md5(string_agg(
        concat_ws(
            ' ', p.proname, pg_get_function_identity_arguments(p.oid), p.prosecdef, p.provolatile, p.proconfig,
            CASE WHEN comments THEN p.prosrc ELSE regexp_replace(regexp_replace(p.prosrc, '--[^\n]*', '', 'g'), '\s+', ' ', 'g') END
        ),
        E'\n'
        ORDER BY p.proname, pg_get_function_identity_arguments(p.oid)
    ))
    FROM pg_proc AS p
    JOIN pg_namespace AS n ON n.oid = p.pronamespace
    WHERE n.nspname = 'creditsd'
    AND p.proowner = n.nspowner -- others may keep theirs beside ours
$function$;

COMMENT ON FUNCTION creditsd.functions_digest IS
'Condenses every function of ours, with or without what stands in it as a comment; only a difference means anything.';
