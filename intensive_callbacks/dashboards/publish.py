"""Charts and workspace view published to W&B: created or updated, never duplicated."""

from __future__ import annotations

import base64
import hashlib
import json
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from intensive_callbacks.dashboards.presets import PRESETS, preset_name
from intensive_callbacks.dashboards.templates import load
from intensive_callbacks.dashboards.workspace import VIEW_NAME, filled

if TYPE_CHECKING:
    from wandb import Api

_SECONDS = 10

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
    api = _connect()
    presets = {name: f"{entity}/{preset_name(name)}" for name in PRESETS}
    charts = {preset: _create(api, entity, name) for name, preset in presets.items()}
    view = _save_view(api, entity, project, filled(load("workspace"), entity, prefix))
    return Published(presets, charts, view)


def published_names(entity: str) -> list[str]:
    """The presets that :func:`publish` creates, as ``entity/name``."""
    return [f"{entity}/{preset_name(name)}" for name in PRESETS]


def _connect() -> Api:
    import wandb

    try:
        return wandb.Api(timeout=_SECONDS)
    except Exception as error:  # noqa: BLE001  # wandb raises its own errors, its service's and its transport's
        raise PublishError(f"no connection to W&B: {_line(error)}") from None


def _create(api: Api, entity: str, name: str) -> bool:
    """Create a preset; ``False`` if it exists already, which is success: its name contains a hash of its content."""
    try:
        api.create_custom_chart(
            entity=entity,
            name=preset_name(name),
            display_name=PRESETS[name].title,
            spec_type="vega2",
            access="private",
            spec=load(name),
        )
    except Exception as error:  # noqa: BLE001  # as above
        # wandb's service answers with http_status, its older transport with status_code.
        response = getattr(error, "response", None)
        if 409 in (getattr(response, "http_status", None), getattr(response, "status_code", None)):
            return False
        raise PublishError(f"W&B refused the chart {name} for {entity}: {_line(error)}") from None
    return True


def _save_view(api: Api, entity: str, project: str, spec: dict[str, Any]) -> str:
    import wandb

    where = {"entity": entity, "project": project}
    found = _ask(api, _FIND_VIEWS, where).get("project")
    if found is None:
        raise PublishError(f"no project {entity}/{project} is visible to this API key: log a run there first")
    views = [edge["node"] for edge in found["allViews"]["edges"]]
    old = next((view for view in views if view["displayName"] == VIEW_NAME), None)
    digest = hashlib.sha256(f"{entity}/{project}".encode()).hexdigest()[:11]
    view = {"id": old["id"], "name": old["name"]} if old else {"name": f"nw-{digest}-v"}
    saved = _ask(api, _SAVE_VIEW, {**where, **view, "displayName": VIEW_NAME, "spec": json.dumps(spec)})
    name = saved["upsertView"]["view"]["name"].removeprefix("nw-").removesuffix("-v")
    path = f"{urllib.parse.quote(entity)}/{urllib.parse.quote(project)}"
    return f"{wandb.setup().settings.app_url}/{path}?nw={name}"


def _ask(api: Api, query: str, variables: dict[str, Any]) -> dict[str, Any]:
    """Send one GraphQL request; wandb has a public function for presets, but none for views."""
    credentials = base64.b64encode(f"api:{api.api_key}".encode()).decode()
    request = urllib.request.Request(  # noqa: S310  # the address is the user's own setting
        f"{api.settings['base_url']}/graphql",
        data=json.dumps({"query": query, "variables": variables}).encode(),
        headers={"Content-Type": "application/json", "Authorization": f"Basic {credentials}"},
    )
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS) as response:  # noqa: S310  # as above
            answer = json.load(response)
    except (OSError, ValueError) as error:
        raise PublishError(f"W&B did not accept the workspace view: {_line(error)}") from None
    if answer.get("errors"):
        raise PublishError(f"W&B refused the workspace view: {answer['errors'][0].get('message', 'no reason given')}")
    data: dict[str, Any] = answer["data"]
    return data


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
