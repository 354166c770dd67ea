"""The operator packages of the stock pipeline, paddlenlp_ops and fused_ln: their sources, build and installation."""
