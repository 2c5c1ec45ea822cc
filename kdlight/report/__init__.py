"""One self-contained HTML page, and verdicts, over one or many run folders."""
