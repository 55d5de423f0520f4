"""The page that `collect` serves, as a real browser shows it: what it says is what was collected, also after a fault. Then the page of
`simulate`, which knows only what has arrived of a `collect` with checkpoints of its own.

Runs as the command of `mimecast-devo simulate`, which stands Mimecast and Devo around it. CHROMIUM: the browser; PROGRAM: mimecast-devo;
SIMULATED_PAGE: the page of `simulate`; SCREENSHOT: where a picture of the page of `collect` is left, if anywhere.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from html.parser import HTMLParser

SOURCES = 11


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def call(url, method="GET", body=None):
    request = urllib.request.Request(url, method=method, data=body and json.dumps(body).encode())
    request.add_header("content-type", "application/json")
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.read().decode()


def browser(*words):
    profile = tempfile.mkdtemp()
    command = [os.environ.get("CHROMIUM", "chromium"), "--headless", "--no-sandbox", "--disable-gpu",
               "--disable-background-networking", "--disable-component-update", "--no-first-run", f"--user-data-dir={profile}",
               "--virtual-time-budget=3000", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


class Cards(HTMLParser):
    """The cards of the page: what each says, by source."""

    def __init__(self):
        super().__init__()
        self.cards, self.card, self.tag, self.labels, self.texts = {}, None, None, [], {"state": "", "note": ""}

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag == "li" and "data-source" in attributes:
            self.card = self.cards.setdefault(attributes["data-source"], {"text": ""})
            if attributes.get("tabindex") != "0":
                sys.exit("a card cannot be reached by the keyboard")
        if tag == "svg" and not attributes.get("aria-label"):
            sys.exit("a plot says nothing to a screen reader")
        self.tag = attributes["id"] if attributes.get("id") in self.texts else tag

    def handle_data(self, text):
        if self.tag in self.texts:
            self.texts[self.tag] += text
        elif self.card is not None:
            if self.tag == "dt":
                self.label = text
            elif self.tag == "dd":
                self.card[self.label] = text
            else:
                self.card["text"] += text + " "

    @property
    def state(self):
        return self.texts["state"]

    def handle_endtag(self, tag):
        self.tag = None
        if tag == "li":
            self.card = None


def page(url):
    cards = Cards()
    cards.feed(browser("--dump-dom", url))
    return cards


def until(what, done, seconds=90):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = done()
        if found:
            return found
        time.sleep(0.3)
    sys.exit(f"{what} does not come")


def main():
    url = f"http://127.0.0.1:{free_port()}"
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "STATE_FILE": f"{folder}/state.db", "PERIOD": "2s"}
        collect = subprocess.Popen([os.environ["PROGRAM"], "collect", "--page", url.removeprefix("http://")],
                                   env=environment, stderr=subprocess.DEVNULL)
        try:
            look(url)
        finally:
            collect.terminate()
            collect.wait(timeout=10)


def look(url):
    simulator = os.environ["SIMULATOR_URL"]

    def status():
        try:
            return json.loads(call(f"{url}/status.json"))
        except (urllib.error.URLError, ConnectionError):
            return None

    def settled():
        """All that Mimecast has is there, and all is well."""
        even = all(balance["missing"] == 0 for balance in json.loads(call(simulator)).values())
        whole = status()
        return whole if even and whole and whole["healthy"] else None

    whole = until("all events", settled)
    shown = page(url)
    assert shown.state == "all sources are well", shown.state
    assert len(shown.cards) == SOURCES, shown.cards.keys()
    arrived = json.loads(call(simulator))
    for name, source in whole["sources"].items():
        if name == "messageholdsummary":
            continue  # sent by every poll
        said = int(shown.cards[name]["events"].replace(",", ""))
        tables = [balance["arrived"] for table, balance in arrived.items() if table.startswith(source["table"])]
        assert said == sum(tables), f"{name}: the page says {said}, Devo has {sum(tables)}"

    call(f"{simulator}/faults", "POST", {"text": "/api/ttp/url", "status": 403, "times": 1000})
    until("the failure", lambda: not status()["healthy"])
    shown = page(url)
    assert shown.state == f"1 of {SOURCES} sources need a look", shown.state
    assert "failing" in shown.cards["url"]["text"], shown.cards["url"]
    assert "Monitoring | URL Protection | Read" in shown.cards["url"]["text"], shown.cards["url"]
    if os.environ.get("SCREENSHOT"):
        browser(f"--screenshot={os.environ['SCREENSHOT']}", "--window-size=1180,900", "--hide-scrollbars", url)

    call(f"{simulator}/faults", "DELETE")
    call(f"{simulator}/events", "POST")
    whole = until("health", settled)
    shown = page(url)
    assert shown.state == "all sources are well", shown.state
    assert int(shown.cards["url"]["events"].replace(",", "")) == whole["sources"]["url"]["events"]
    assert "next run" in shown.cards["url"] and not shown.texts["note"], shown.texts

    shown = page(os.environ["SIMULATED_PAGE"])
    assert shown.state == f"{SOURCES} of {SOURCES} sources need a look", shown.state
    assert "not known here" in shown.texts["note"], shown.texts
    url = shown.cards["url"]
    assert int(url["events"].replace(",", "")) == whole["sources"]["url"]["events"], url
    assert "elsewhere" in url["text"] and "next run" not in url and url["last success"] == "never", url
    print(f"the page shows what was collected from {SOURCES} sources, also after a fault")


main()
