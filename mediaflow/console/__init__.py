"""The console: a live page at ``/console`` of the balancer, for the people who run it.

The page and its files are open, and are all that is served below ``/console``. What it shows it asks of the API
like any other client, with the token that it asked the person for.
"""

from mediaflow.console.page import add_routes as add_page
from mediaflow.console.users import StreamStore
from mediaflow.console.users import add_routes as add_users
from mediaflow.web.surface import Surface

__all__ = ["add_routes"]


def add_routes(surface: Surface, store: StreamStore) -> None:
    """Add the page, and the one request that it needs beside those that there are: the streams of a user."""
    add_page(surface)
    add_users(surface, store)
