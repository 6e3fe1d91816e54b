-- Who reads through PostgREST or Supabase, of the type of the table's own ids: a signed-in user's row is found by its key. Policies hold on to it,
-- so it is replaced in place.
CREATE OR REPLACE FUNCTION creditsd.signed_in()
RETURNS {user_id_type}
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    claim jsonb;
BEGIN
    claim := NULLIF(current_setting('request.jwt.claims', true), '')::jsonb{user_claim};
    -- An object or a list names nobody, where ids are text, too.
    RETURN CASE WHEN jsonb_typeof(claim) IN ('string', 'number') THEN NULLIF(claim #>> '{{}}', '') END::{user_id_type};
EXCEPTION
    -- Claims that are no JSON, or nested without end, and a claim that is no id of this type: nobody is signed in.
    WHEN data_exception OR program_limit_exceeded THEN
        RETURN NULL;
END
$function$;

COMMENT ON FUNCTION creditsd.signed_in IS
'The signed-in user: the claim of request.jwt.claims, as PostgREST and Supabase set it, that http.jwt_user_claim named at install; null where nobody is, and never an error.';
