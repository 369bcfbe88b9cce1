"""The report of a budget, for people and for machines: one module per format.

text      lines for a terminal and for logs
junit     JUnit XML: a test case for every limit
github    workflow commands that annotate source lines, and the step summary
markdown  a comment for a pull request
sarif     SARIF 2.1.0: a result for every limit that does not hold, on its source line
"""
