-- Capture passes by an id that is too long for an index, whether or not it would fit in there compressed: so it is kept by nobody.
CREATE FUNCTION creditsd.keepable(users {user_id_type}[])
RETURNS {user_id_type}[]
LANGUAGE plpgsql
VOLATILE
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    each_user {user_id_type};
BEGIN
    FOR each_user IN
        SELECT u
        FROM unnest(users) AS u
        WHERE octet_length(u::text) > {longest_bytes}{or_is_no_text}
    LOOP
        IF octet_length(each_user::text) > {longest_bytes} THEN
            PERFORM creditsd.note_problem(
                {id_shown}::{user_id_type}, 'id too long',
                format('an id of %s bytes: the longest that can be kept has %s', octet_length(each_user::text), {longest_bytes})
            );
        ELSE
            PERFORM creditsd.note_problem({id_shown}::{user_id_type}, 'not summed', 'an id of bytes that are no UTF-8');
        END IF;
        users := array_remove(users, each_user);
    END LOOP;
    RETURN users;
END
$function$;

COMMENT ON FUNCTION creditsd.keepable IS
'Those of the users whose ids can be kept, being short enough and text; the others are noted in problems.';
