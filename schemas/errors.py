"""What reading bytes can go wrong with."""


class Undecodable(ValueError):
    """Bytes that are not a value this system knows; they belong in `derms.dead-letters`.

    The text names what was wrong (prefix, fingerprint, length, field), never the bytes themselves.
    """
