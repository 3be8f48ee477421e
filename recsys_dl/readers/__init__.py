"""Files and sources -> `data`: text files, tables, columns, side tables, downloads, LETOR."""
