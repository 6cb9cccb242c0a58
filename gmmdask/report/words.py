"""Numbers and lists as people write them."""

import math
from collections.abc import Sequence

MINUS = "\N{MINUS SIGN}"


def number(value: float, digits: int = 3) -> str:
    """So many significant digits; thousands apart, and powers of ten where a number is far from one."""
    if not math.isfinite(value):
        return "unknown" if math.isnan(value) else f"{MINUS if value < 0 else ''}∞"
    size = abs(value)
    if size and not 1e-4 <= size < 1e7:
        mantissa, _, power = f"{value:.{digits - 1}e}".partition("e")
        text = f"{mantissa.rstrip('0').rstrip('.') if '.' in mantissa else mantissa}e{int(power)}"
    elif size >= 10 ** (digits - 1):
        text = f"{value:,.0f}"
    else:
        text = f"{value:.{digits}g}"
    return text.replace("-", MINUS)


def exact(value: float) -> str:
    """A score in nats per row: five digits behind the point, beyond which no fit is comparable."""
    return f"{value:,.5f}".replace("-", MINUS)


def percent(share: float) -> str:
    """A share as a percentage, of three digits at most."""
    value = 100 * share
    if 0 < value < 0.001:
        return "less than 0.001 %"
    return f"{value:.3g} %"


def count(n: float, what: str, several: str = "") -> str:
    """So many things: "1 row", "65,016 rows"."""
    return f"{n:,.0f} {what if round(n) == 1 else several or what + 's'}"


def joined(parts: Sequence[str], most: int = 0) -> str:
    """ "a, b and c"; of more than `most` (if there is a limit), the first ones and how many there are beyond."""
    if most and len(parts) > most:
        return f"{', '.join(parts[:most])} and {len(parts) - most:,} more"
    return " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))


def components(numbers: Sequence[int], most: int = 6) -> str:
    """ "component 3", "components 3, 5 and 8"."""
    names = [str(number) for number in numbers]
    return f"{'component' if len(names) == 1 else 'components'} {joined(names, most)}"


def sentence(text: str) -> str:
    """With a capital letter in front and one full stop behind."""
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".") if text else ""
