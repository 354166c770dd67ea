"""How outputs are given."""


class RequestOutputKind:
    DELTA = "delta"
