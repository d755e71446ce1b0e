"""A stand-in for W&B's server on this machine: answers what wandb's client needs, and records what it sends."""

import gzip
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = "0123456789" * 4


class Loopback:
    """The server and what it has recorded. ``refuse`` maps an operation to the status it is answered with."""

    def __init__(self):
        self.charts, self.views, self.operations, self.refuse = {}, {}, [], {}
        self.history, self.config, self.files, self.artifacts = [], {}, {}, []
        self.projects, self.misunderstood = {"p"}, []
        self.server = None

    def __enter__(self):
        state = self

        class Handler(_Handler):
            loopback = state

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        """Stop answering, as a server that dies."""
        if self.server:
            self.server.shutdown()
            self.server.server_close()
            self.server = None

    def answer(self, name, variables):
        """The data that answers a GraphQL operation, or ``None`` for one that is not known."""
        known = getattr(self, "on_" + re.sub("(?<=[a-z])(?=[A-Z])", "_", name).lower(), None)
        try:
            return known({**variables, **(variables.get("input") or {})}) if known else None
        except (KeyError, TypeError) as error:
            self.misunderstood.append((name, repr(error), variables))
            return None

    def on_viewer(self, _):
        viewer = {"id": "u", "entity": "e", "username": "e", "flags": "{}", "teams": {"edges": []}, "apiKeys": None}
        return {"viewer": viewer, "serverInfo": {"cliVersionInfo": {}, "latestLocalVersionInfo": None}}

    def on_server_features_query(self, _):
        return {"serverInfo": {"features": []}}

    def on_organization_core_weave_organization_id(self, _):
        return {"entity": {"organization": {"coreWeaveOrganizationId": None}}}

    def on_run_resume_status(self, _):
        return {"model": None}

    def on_upsert_bucket(self, variables):
        self.config |= json.loads(variables.get("config") or "{}")
        project = {"id": "p", "name": variables.get("project") or "p", "entity": {"id": "e", "name": "e"}}
        bucket = {
            "id": "b",
            "name": variables["name"],
            "displayName": variables.get("displayName") or variables["name"],
            "description": None,
            "config": None,
            "sweepName": None,
            "historyLineCount": 0,
            "project": project,
        }
        return {"upsertBucket": {"bucket": bucket, "inserted": True}}

    def on_create_run_files(self, variables):
        files = [{"name": name, "uploadUrl": f"{self.url}/storage/{name}"} for name in variables["files"]]
        return {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": files}}

    def on_artifact_type(self, _):
        return {"project": {"artifact": None, "artifactType": {"name": "run_table"}}}

    def on_create_artifact(self, variables):
        self.artifacts.append(variables)
        sequence = {"id": "s", "latestArtifact": None}
        artifact = {"id": f"a{len(self.artifacts)}", "state": "PENDING", "artifactSequence": sequence}
        return {"createArtifact": {"artifact": artifact}}

    def _manifest(self):
        file = {"uploadUrl": f"{self.url}/storage/manifest", "uploadHeaders": []}
        file |= {"id": "f", "name": "wandb_manifest.json", "displayName": "m", "uploadUrl": file["uploadUrl"]}
        return {"artifactManifest": {"id": "m", "file": file}}

    def on_create_artifact_manifest(self, _):
        return {"createArtifactManifest": self._manifest()}

    def on_update_artifact_manifest(self, _):
        return {"updateArtifactManifest": self._manifest()}

    def on_create_artifact_files(self, variables):
        edges = [
            {
                "node": {
                    "id": "f",
                    "name": file["name"],
                    "displayName": file["name"],
                    "uploadUrl": f"{self.url}/storage/{file['name']}",
                    "uploadHeaders": [],
                    "artifact": {"id": "a1"},
                    "storagePath": "x",
                    "uploadMultipartUrls": None,
                }
            }
            for file in variables["artifactFiles"]
        ]
        return {"createArtifactFiles": {"files": {"edges": edges}}}

    def on_commit_artifact(self, variables):
        return {"commitArtifact": {"artifact": {"id": variables["artifactID"], "digest": "d"}}}

    def on_create_custom_chart(self, variables):
        name = f"{variables['entity']}/{variables['chartName']}"
        if name in self.charts:
            return 409
        self.charts[name] = variables
        return {"createCustomChart": {"chart": {"id": name}}}

    def on_views(self, variables):
        if variables["project"] not in self.projects:
            return {"project": None}
        nodes = [
            {"id": key, "name": view["name"], "displayName": view["displayName"]} for key, view in self.views.items()
        ]
        return {"project": {"allViews": {"edges": [{"node": node} for node in nodes]}}}

    def on_save_view(self, variables):
        key = variables.get("id") or f"v{len(self.views)}"
        self.views[key] = variables
        return {"upsertView": {"view": {"id": key, "name": variables["name"]}}}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def _body(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _send(self, status, content):
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_PUT(self):
        self.loopback.files[self.path.removeprefix("/storage/")] = self._body()
        self._send(200, {})

    def do_GET(self):
        self._send(404, {})

    def do_POST(self):
        loopback, request = self.loopback, json.loads(self._body())
        if self.path.endswith("/file_stream"):
            lines = request.get("files", {}).get("wandb-history.jsonl", {}).get("content", [])
            loopback.history += [json.loads(line) for line in lines]
            return self._send(200, {})
        query, variables = request["query"], request.get("variables") or {}
        name = re.search(r"(?:query|mutation)\s+(\w+)", query)[1]
        loopback.operations.append(name)
        if name in loopback.refuse:
            status = loopback.refuse[name]
            return self._send(status, {"errors": [{"message": f"refused with {status}"}]})
        data = loopback.answer(name, variables)
        if data == 409:
            return self._send(409, {"errors": [{"message": "conflict"}]})
        if data is None:
            # Not a 5xx: wandb would try that again and again.
            return self._send(400, {"errors": [{"message": f"{name} is not known here"}]})
        return self._send(200, {"data": data})
