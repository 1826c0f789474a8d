"""The command line's verbs, a thin file each: arguments in, one call, a table or JSON out."""
