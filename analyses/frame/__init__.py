"""The one way to be an analysis: options, command line, tables, parts and figures."""
