"""What of the table's text can be published: text, and no more of it than every total may carry."""

from __future__ import annotations

from collections.abc import Mapping

from psycopg import sql

from creditsd.domain.user_id import LONGEST_BYTES

LONGEST_WORDS = 1000  # bytes of what is published as it stands; what is longer is cut to so many characters

# In a database of no encoding each byte is a letter: so this is UTF-8, byte by byte (RFC 3629).
_IS_TEXT = (
    r"({0} ~ E'^([\u0001-\u007f]|[\u00c2-\u00df][\u0080-\u00bf]|\u00e0[\u00a0-\u00bf][\u0080-\u00bf]"
    r"|[\u00e1-\u00ec\u00ee\u00ef][\u0080-\u00bf]{{2}}|\u00ed[\u0080-\u009f][\u0080-\u00bf]"
    r"|\u00f0[\u0090-\u00bf][\u0080-\u00bf]{{2}}|[\u00f1-\u00f3][\u0080-\u00bf]{{3}}"
    r"|\u00f4[\u0080-\u008f][\u0080-\u00bf]{{2}})*$')"
).replace("\\", "\\\\")
_BYTES_SHOWN = f"(CASE WHEN {_IS_TEXT} THEN {{0}} ELSE encode(convert_to({{0}}, 'SQL_ASCII'), 'escape') END)"
_CUT = "CASE WHEN octet_length({0}) <= {1} THEN {0} ELSE left({0}, {1}) || '...' END"
_CUT_BYTES = _CUT.replace(  # between two letters
    "left({0}, {1})", r"regexp_replace(left({0}, {1}), E'[\\u00c2-\\u00f4][\\u0080-\\u00bf]{{0,3}}$', '')"
)

_LOG_UNFIT = f"""
            IF octet_length({{0}}) > {LONGEST_BYTES} THEN
                RAISE LOG 'creditsd cannot keep totals of an id of % bytes: %', octet_length({{0}}), left({{0}}, 60);
            END IF;"""
_SHOWN = sql.SQL("left(each_user::text, 100)")

KEPT_ANYWAY: Mapping[str, sql.Composable] = {
    **dict.fromkeys(("and_new_fits", "and_old_fits", "and_marked_fits", "log_new_unfit", "or_is_no_text"), sql.SQL("")),
    "id_shown": _SHOWN,
}
"""What the templates name, of ids that are no text: they are short, and can be told."""


def kept(new: sql.Composable, old: sql.Composable, *, encoded: bool) -> Mapping[str, sql.Composable]:
    """Return the same of ids that are text, in a new and in an old row: an index must hold them."""
    is_text = "" if encoded else f" AND {_IS_TEXT}"
    fits = sql.SQL(f" AND octet_length({{0}}) <= {LONGEST_BYTES}{is_text}")
    return {
        "and_new_fits": fits.format(new),
        "and_old_fits": fits.format(old),
        "and_marked_fits": fits.format(sql.SQL("marked")),
        "log_new_unfit": sql.SQL(_LOG_UNFIT).format(new),
        "or_is_no_text": sql.SQL("" if encoded else f" OR NOT {_IS_TEXT}").format(sql.SQL("u::text")),
        "id_shown": as_text(_SHOWN, encoded=encoded),
    }


def as_text(value: sql.Composable, *, encoded: bool) -> sql.Composable:
    """Return a value, or where that may be bytes and no text, what shows them: no client would be given them."""
    return value if encoded else sql.SQL(_BYTES_SHOWN).format(value)


def shortened(words: sql.Composable, *, encoded: bool) -> sql.Composable:
    """Return words as text, cut where they are too long."""
    cut = sql.SQL(_CUT if encoded else _CUT_BYTES).format(words, sql.Literal(LONGEST_WORDS))
    return as_text(cut, encoded=encoded)
