"""What a loader derives from."""


class BaseModelLoader:
    pass
