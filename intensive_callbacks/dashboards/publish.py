"""Charts and workspace view published to W&B: created or updated, never duplicated."""

from __future__ import annotations

import hashlib
import json
import urllib.parse
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from intensive_callbacks.dashboards.presets import PRESETS, preset_name
from intensive_callbacks.dashboards.server import Server, ServerError
from intensive_callbacks.dashboards.templates import load
from intensive_callbacks.dashboards.workspace import VIEW_NAME, filled
from intensive_callbacks.untrusted import reason

_VIEWER = "query Viewer { viewer { id } }"

_CREATE_CHART = """
mutation CreateCustomChart(
  $entity: String!, $chartName: String!, $displayName: String!, $chartType: String!,
  $access: String!, $spec: JSONString!
) {
  createCustomChart(input: {
    entity: $entity, name: $chartName, displayName: $displayName, type: $chartType, access: $access, spec: $spec
  }) { chart { id } }
}"""

_FIND_VIEWS = """
query Views($entity: String, $project: String) {
  project(name: $project, entityName: $entity) {
    allViews(viewType: "project-view") { edges { node { id name displayName } } }
  }
}"""

_SAVE_VIEW = """
mutation SaveView($id: ID, $entity: String, $project: String, $name: String, $displayName: String, $spec: String) {
  upsertView(input: {
    id: $id, entityName: $entity, projectName: $project, type: "project-view", name: $name,
    displayName: $displayName, description: "", spec: $spec, createdUsing: WANDB_SDK
  }) { view { id name } }
}"""


class PublishError(RuntimeError):
    """The dashboard could not be published; the message gives the reason in one line."""


@dataclass(frozen=True)
class Published:
    """What is now in W&B.

    Attributes:
        presets: each chart's preset as ``entity/name``, by the chart's name.
        charts: whether each preset, by ``entity/name``, was created by this call.
        url: the view's address.
    """

    presets: dict[str, str]
    charts: dict[str, bool]
    url: str


def publish(entity: str, project: str, prefix: str = "") -> Published:
    """Publish the chart presets, and the view that shows them, to a W&B project.

    W&B never changes a preset, so a new version of one gets a new name. A view of the same name is updated.

    Args:
        entity: the user or team.
        project: the project, which must exist for the view.
        prefix: the prefix that the run's logger adds to its keys.

    Raises:
        PublishError: without an API key, permission, project or network.
    """
    server = _connect()
    presets = {name: f"{entity}/{preset_name(name)}" for name in PRESETS}
    charts = {preset: _create(server, entity, name) for name, preset in presets.items()}
    view = _save_view(server, entity, project, filled(load("workspace"), entity, prefix))
    return Published(presets, charts, view)


def published_names(entity: str) -> list[str]:
    """The presets that :func:`publish` creates, as ``entity/name``."""
    return [f"{entity}/{preset_name(name)}" for name in PRESETS]


def _connect() -> Server:
    """The server that wandb is configured for, asked whether it knows the key.

    wandb's own client follows redirects, retries for minutes and has no function for views; so it is asked for its
    settings alone.
    """
    import wandb

    settings = wandb.setup().settings
    try:
        server = Server(str(settings.base_url), settings.api_key)
        viewer = server.ask(_VIEWER, {}).get("viewer")
    except ServerError as error:
        raise PublishError(f"no connection to W&B: {reason(error)}") from None
    if not viewer:
        raise PublishError("no connection to W&B: the server does not know this API key")
    return server


def _create(server: Server, entity: str, name: str) -> bool:
    """Create a preset; ``False`` if it exists already, which is success: its name contains a hash of its content."""
    chart = {
        "entity": entity,
        "chartName": preset_name(name),
        "displayName": PRESETS[name].title,
        "chartType": "vega2",
        "access": "PRIVATE",
        "spec": json.dumps(load(name)),
    }
    try:
        server.ask(_CREATE_CHART, chart)
    except ServerError as error:
        if error.status == HTTPStatus.CONFLICT:
            return False
        raise PublishError(f"W&B refused the chart {name} for {entity}: {reason(error)}") from None
    return True


def _save_view(server: Server, entity: str, project: str, spec: dict[str, Any]) -> str:
    import wandb

    where = {"entity": entity, "project": project}
    try:
        found = server.ask(_FIND_VIEWS, where).get("project")
        if found is None:
            raise PublishError(f"no project {entity}/{project} is visible to this API key: log a run there first")
        views = [edge["node"] for edge in found["allViews"]["edges"]]
        old = next((view for view in views if view["displayName"] == VIEW_NAME), None)
        digest = hashlib.sha256(f"{entity}/{project}".encode()).hexdigest()[:11]
        view = {"id": old["id"], "name": old["name"]} if old else {"name": f"nw-{digest}-v"}
        saved = server.ask(_SAVE_VIEW, {**where, **view, "displayName": VIEW_NAME, "spec": json.dumps(spec)})
        name = str(saved["upsertView"]["view"]["name"]).removeprefix("nw-").removesuffix("-v")
    except ServerError as error:
        raise PublishError(f"W&B did not accept the workspace view: {reason(error)}") from None
    except (AttributeError, KeyError, TypeError) as error:
        raise PublishError(
            f"W&B's answer about the workspace view is not of the form that was expected: {reason(error)}"
        ) from None
    path = f"{urllib.parse.quote(entity)}/{urllib.parse.quote(project)}"
    return f"{wandb.setup().settings.app_url}/{path}?nw={urllib.parse.quote(name)}"
