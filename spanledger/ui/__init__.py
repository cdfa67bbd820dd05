"""The ledger in a browser: pages rendered here, charts as SVG, one stylesheet and one small script of our own.

    Store (ask.py) ─ frames ─▶ charts.py, tables.py ─▶ pages/*.py ─▶ page.py (shell, streaming, CSV) ─▶ site.py (routes, headers, auth.py)

A page is a function of its URL: filters, sorting and cursors stand in the query string, so a link is a view. Nothing is
held per reader in the collector, and nothing runs in the browser that the strict Content-Security-Policy would refuse.
"""
