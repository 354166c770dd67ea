"""What says that the model runs in this process."""


class UniProcExecutor:
    pass
