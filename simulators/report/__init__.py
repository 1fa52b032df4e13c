"""The report of a judgement: figures in, one HTML page with its charts out."""
