"""A comparison told, one form a file; each takes a `Comparison` and returns what is to be written.

    words       what they share: numbers, names and sentences
    table       for a terminal
    explain     the numbers behind one verdict
    document    one JSON document
    junit       what CI systems read
    markdown    a pull-request comment, or a job's summary

The page is made in `lstm_harness.report`, as every page is.
"""
