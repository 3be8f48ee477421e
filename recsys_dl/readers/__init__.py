"""Reading files and public data sets into `data`: text files, tables, columns, side tables, downloads, LETOR."""
