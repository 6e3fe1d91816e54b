-- The credits of a row as they are summed. One function a type, so that the statements read the same whichever the column has, or gets:
-- PostgreSQL chooses when it plans, and puts the body in its place. Bound to PostgreSQL's own operators when they
-- are made, so they need no search_path.
CREATE FUNCTION creditsd.amount(credits smallint)
RETURNS smallint
LANGUAGE sql
IMMUTABLE
PARALLEL SAFE
RETURN credits;

COMMENT ON FUNCTION creditsd.amount(smallint) IS
'The credits of a row as they are summed: sums of whole numbers are quicker, and PostgreSQL widens them.';

CREATE FUNCTION creditsd.amount(credits integer)
RETURNS integer
LANGUAGE sql
IMMUTABLE
PARALLEL SAFE
RETURN credits;

COMMENT ON FUNCTION creditsd.amount(integer) IS
'The credits of a row as they are summed: sums of whole numbers are quicker, and PostgreSQL widens them.';

CREATE FUNCTION creditsd.amount(credits bigint)
RETURNS bigint
LANGUAGE sql
IMMUTABLE
PARALLEL SAFE
RETURN credits;

COMMENT ON FUNCTION creditsd.amount(bigint) IS
'The credits of a row as they are summed: sums of whole numbers are quicker, and PostgreSQL widens them.';

-- Not a number, and endless: no JSON number says either, so such a row adds nothing, as a null does.
CREATE FUNCTION creditsd.amount(credits numeric)
RETURNS numeric
LANGUAGE sql
IMMUTABLE
PARALLEL SAFE
RETURN CASE WHEN credits NOT IN ('NaN', 'Infinity', '-Infinity') THEN credits END;

COMMENT ON FUNCTION creditsd.amount(numeric) IS
'The credits of a row as they are summed; null for what is not a number, or endless.';
