"""Store to eyes: queries, figures, pages, API, live push."""
