"""One reader per file format; each maps names to StoredTensor without reading a tensor's bytes."""
