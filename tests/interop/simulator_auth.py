"""Checks the simulated Mimecast's authentication with clients that this project did not write.

API 1.0 is signed by PyPI's mimecast-api (0.5), API 2.0's token flow is run by PyPI's Authlib.

    pip install mimecast-api==0.5 authlib requests
    cargo run -p simulator --example serve      # prints the three arguments as one line of JSON, until stdin closes
    python simulator_auth.py BASE_URL SECRET_V1 SECRET_V2

BASE_URL is the server's; the secrets are the JSON objects that the product would be given. Exits with 0 if every check
holds, else with 1.
"""

import gzip
import json
import sys
from datetime import datetime, timedelta, timezone

import requests
from authlib.integrations.requests_client import OAuth2Session
from mimecast_api.post_rest import simple_exchange

WINDOWS = {
    "/api/audit/get-audit-events": ("startDateTime", "endDateTime", None),
    "/api/ttp/attachment/get-logs": ("from", "to", "attachmentLogs"),
    "/api/ttp/impersonation/get-logs": ("from", "to", "impersonationLogs"),
    "/api/ttp/url/get-logs": ("from", "to", "clickLogs"),
    "/api/archive/get-search-logs": ("start", "end", "logs"),
    "/api/archive/get-view-logs": ("start", "end", None),
    "/api/gateway/get-hold-message-list": ("start", "end", None),
}
failed = []


def check(name, holds):
    print("ok    " if holds else "FAILED", name)
    if not holds:
        failed.append(name)


def items(path):
    """The request's item for the last day, and the list that holds the rows."""
    start, end, inner = WINDOWS[path]
    now = datetime.now(timezone.utc)
    item = {start: date(now - timedelta(days=1)), end: date(now)}
    if "hold" in path:
        item["admin"] = True
    return item, inner


def date(time):
    return time.strftime("%Y-%m-%dT%H:%M:%S+0000")


def rows(data, inner):
    return data if inner is None else data[0][inner] if data else []


def api_1(base_url, secret):
    """Every function that answers in JSON, signed by mimecast-api."""
    keys = [secret[name] for name in ("access_key", "secret_key", "app_id", "app_key")]

    def call(path, item, keys=keys):
        # The package leaves paging out: `data` is all it sends.
        return simple_exchange(base_url, *keys, path, {"data": [item]})

    for path in WINDOWS:
        item, inner = items(path)
        check(f"1.0 {path}", len(rows(call(path, item), inner)) == 25)
    for path in ("/api/gateway/get-hold-summary-list", "/api/account/get-dashboard-notifications"):
        check(f"1.0 {path}", len(call(path, {})) > 0)
    for index, name in enumerate(("access key", "secret key", "app id", "app key")):
        wrong = list(keys)
        wrong[index] = "c2VjcmV0" + wrong[index][8:]
        try:
            call("/api/gateway/get-hold-summary-list", {}, wrong)
            check(f"1.0 a wrong {name} is refused", False)
        except Exception as error:  # the package raises one exception or another
            said = str(error)
            check(f"1.0 a wrong {name} is refused", "0004 Invalid Signature" in said or "App ID is invalid" in said)


def api_2(base_url, secret):
    """The token flow by Authlib, then a window page by page and a SIEM file."""
    session = OAuth2Session(
        secret["client_id"], secret["client_secret"], token_endpoint_auth_method="client_secret_post"
    )
    token = session.fetch_token(f"{base_url}/oauth/token", grant_type="client_credentials")
    check("2.0 token", token["token_type"] == "Bearer" and token["expires_in"] == 1799)
    for path in WINDOWS:
        item, inner = items(path)
        paging, got, total = {"pageSize": 7}, 0, 0
        while True:
            body = {"meta": {"pagination": paging}, "data": [item]}
            answer = session.post(base_url + path, json=body).json()
            got += len(rows(answer["data"], inner))
            total = answer["meta"]["pagination"]["totalCount"]
            if answer["fail"] or "next" not in answer["meta"]["pagination"]:
                break
            paging["pageToken"] = answer["meta"]["pagination"]["next"]
        check(f"2.0 {path}: {got} of {total} rows", got == total > 25)
    today = datetime.now(timezone.utc).date()
    query = {"type": "url protect", "dateRangeStartsAt": today - timedelta(days=1), "dateRangeEndsAt": today}
    page = session.get(f"{base_url}/siem/v1/batch/events/cg", params=query).json()
    files = [requests.get(link["url"]) for link in page["value"]]
    lines = [line for file in files for line in gzip.decompress(file.content).split(b"\n") if line]
    check("2.0 siem files", len(lines) > 20 and all(json.loads(line) for line in lines))
    check("2.0 a link and a token are too much", session.get(page["value"][0]["url"]).status_code == 400)
    wrong = requests.get(f"{base_url}/siem/v1/batch/events/cg", params=query, headers={"Authorization": "Bearer x"})
    check("2.0 a wrong token is refused", wrong.status_code == 401)
    form = {"client_id": secret["client_id"], "client_secret": "wrong", "grant_type": "client_credentials"}
    answer = requests.post(f"{base_url}/oauth/token", data=form)
    check("2.0 a wrong secret is refused", answer.status_code == 401)


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    base_url, secret_v1, secret_v2 = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])
    api_1(base_url, secret_v1)
    api_2(base_url, secret_v2)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
