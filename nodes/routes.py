"""The HTTP routes of the pack, for its pages; ComfyUI has each of them under /api as well."""

from __future__ import annotations

from aiohttp import web

from . import route_changes as changes
from . import route_views as views
from .route_answer import CHANGING, SOLVING, Handler, by_body, by_form, by_query
from .route_cost import show_cost
from .route_kept import show_kept
from .route_plan import show_plan

ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("GET", "library", by_query(views.show_library)),
    ("GET", "calibration", by_query(views.show_calibration, SOLVING)),
    ("GET", "jobs", by_query(views.show_running)),
    ("GET", "export", by_query(changes.export)),
    ("POST", "plan", by_body(show_plan, SOLVING)),
    ("POST", "cost", by_body(show_cost, SOLVING)),
    ("POST", "kept", by_body(show_kept, SOLVING)),
    ("POST", "solve", by_body(views.show_solution, SOLVING)),
    ("POST", "save", by_body(changes.save, CHANGING)),
    ("POST", "undo", by_body(changes.undo, CHANGING)),
    ("POST", "rename", by_body(changes.rename, CHANGING)),
    ("POST", "delete", by_body(changes.delete, CHANGING)),
    ("POST", "leave_out", by_body(changes.leave_out, CHANGING)),
    ("POST", "merge", by_body(changes.merge, CHANGING)),
    ("POST", "import", by_form(changes.import_file, CHANGING)),
)


def register(routes: web.RouteTableDef) -> None:
    """Add the routes, before the server takes them over."""
    for method, name, handler in ROUTES:
        routes.route(method, f"/lemica/{name}")(handler)
