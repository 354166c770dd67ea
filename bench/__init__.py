"""The comparison: arms in their own processes, an accuracy gate, interleaved rounds, rows, tables and plots."""
