"""The registry of loaders."""

LOADERS = {}


def register_model_loader(name):
    def register(loader):
        LOADERS[name] = loader
        return loader
    return register
