// The library's version: a hash of the sources that it was built from, set by ops/build.py.
extern "C" const char* qwen_vl_ops_version() { return QWEN_VL_OPS_VERSION; }
