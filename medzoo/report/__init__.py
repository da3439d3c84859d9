"""The page that a run leaves: its pictures and one self-contained HTML file.

`plots` draws, `page` writes the page of any experiment from its
`results.json`, `labels` holds the words for what a table shows.
"""
