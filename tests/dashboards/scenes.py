"""What a chart draws: its scene graph, as Vega computes it."""

import vl_convert


def scenegraph(chart):
    return vl_convert.vegalite_to_scenegraph(chart.spec(), vl_version="5.8")["scenegraph"]


def marks(node, kind):
    """The items of each mark of a kind, at any depth of the scene."""
    if node.get("marktype") == kind:
        yield node["items"]
    for child in node.get("items", []):
        yield from marks(child, kind)


def labels(scene):
    """The labels at the right of the lines, by their text."""
    return {item["text"]: item for items in marks(scene, "text") for item in items if item.get("limit") == 140}
