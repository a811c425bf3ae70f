"""Fuzzes geoi2i as a user would run it: `python tests/fuzz/fuzz.py --cases 10000 --seed 0 --workers 2`.

Valid inputs are mutated and given to the command line in a child process. A finding is a traceback, a crash, more than
10 s or 2 GB, a failure without one sentence, a file made or left where none should be, a server that was asked, or a
Python warning. Findings are kept in `corpus`, each kind once; those that wait to be mended are moved to `pending`,
where they count as known, and `--settle` moves them back when they are.
"""

import argparse
import hashlib
import itertools
import json
import sys
import threading
import time
from collections import Counter
from pathlib import Path

from watchdog import HERE, Worker

KINDS = ("tiff", "vrt", "sidecar", "model", "recipe", "events", "list", "options", "layout", "hdf5",
         "gpkg")
SHARE = {"tiff": 8, "vrt": 5, "sidecar": 2, "model": 6, "recipe": 3, "events": 2, "list": 1, "options": 3,
         "layout": 6, "hdf5": 4, "gpkg": 2}
OUTCOMES = ("done", "refused", "large", "pending", "finding")
CORPUS, PENDING = HERE / "corpus", HERE / "pending"
_MOST_BYTES, _TRIES = 20_000, 12


def main() -> int:
    options = _options()
    started = time.monotonic()
    if options.settle:
        return settle()
    if options.replay:
        requests = [{"entry": entry, "path": str(folder / entry["file"])}
                    for folder in options.replay for entry in index(folder)]
    else:
        kinds = list(itertools.chain.from_iterable([kind] * SHARE[kind] for kind in options.kinds))
        requests = [{"kind": kinds[number % len(kinds)], "key": f"{options.seed}/{number}", "dropped": []}
                    for number in range(options.cases)]
    campaign = Campaign(requests, options)
    campaign.run()
    print(campaign.table(), f"{campaign.done} cases in {time.monotonic() - started:.0f} s", sep="\n")
    for was, (count, name) in sorted(campaign.found.items()):
        print(f"finding: {was}: {count} times, {name}")
    if campaign.done < len(requests):
        print(f"Only {campaign.done} cases were run: see why the workers ended.")
    return 1 if campaign.found or campaign.done < len(requests) else 0


class Campaign:
    """All cases, shared out to workers; what they find, each kind of it once."""

    def __init__(self, requests: list[dict], options):
        self.requests, self.options, self.lock = iter(requests), options, threading.Lock()
        self.total, self.done, self.started = len(requests), 0, time.monotonic()
        self.counts: Counter[tuple[str, str]] = Counter()
        self.found: dict[str, tuple[int, str]] = {}
        self.known = set() if options.replay else {entry["was"] for entry in index(PENDING)}

    def run(self) -> None:
        threads = [threading.Thread(target=self._work) for _ in range(self.options.workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def table(self) -> str:
        """Cases by kind and outcome."""
        rows = [("kind", "cases", *OUTCOMES)]
        for kind in KINDS:
            counts = [self.counts[kind, outcome] for outcome in OUTCOMES]
            rows += [(kind, sum(counts), *counts)] if sum(counts) else []
        return "\n".join(f"{row[0]:<10}" + "".join(f"{cell:>9}" for cell in row[1:]) for row in rows)

    def _work(self) -> None:
        worker = Worker()
        try:
            while True:
                with self.lock:
                    request = next(self.requests, None)
                if request is None:
                    return
                answer = worker.run(request)
                if (answer["was"] or "").startswith("slow") and answer["was"] not in self.known | self.found.keys():
                    answer = worker.run(request)  # the machine may have been busy with something else
                self._take(request, answer, worker)
        finally:
            worker.close()

    def _take(self, request: dict, answer: dict, worker: Worker) -> None:
        kind = request.get("kind") or request["entry"]["kind"]
        if answer["outcome"] == "finding" and answer["was"] in self.known:
            answer["outcome"] = "pending"
        with self.lock:
            self.counts[kind, answer["outcome"]] += 1
            self.done += 1
            if self.done % 200 == 0:
                rate = self.done / (time.monotonic() - self.started)
                print(f"{self.done} of {self.total} cases, {rate:.1f} a second, {len(self.found)} findings", flush=True)
            if answer["outcome"] != "finding":
                return
            count, name = self.found.get(answer["was"], (0, ""))
            self.found[answer["was"]] = count + 1, name
        if not count:
            name = request["entry"]["file"] if "entry" in request else self._keep(request, answer, worker)
            print(f"finding: {answer['was']}: {name}\n{answer['said'] if self.options.verbose else ''}", flush=True)
            with self.lock:
                self.found[answer["was"]] = self.found[answer["was"]][0], name

    def _keep(self, request: dict, answer: dict, worker: Worker) -> str:
        """Leaves out the mutations that it does not need, and saves what is left."""
        dropped: list[int] = []
        slow = answer.get("seconds") is None
        for number in range(min(answer.get("count", 0), 3 if slow else _TRIES)):
            again = worker.run(request | {"dropped": [*dropped, number]})
            if again["outcome"] == "finding" and again["was"] == answer["was"]:
                dropped, answer = [*dropped, number], again
        content = _content(request | {"dropped": dropped}, worker)
        place = f"{request['kind']} {request['key']} without {dropped}: {'; '.join(answer.get('mutations', ()))}"
        size = len(content or b"") + len(json.dumps(answer.get("layout", [])))
        if content is None or size > _MOST_BYTES or not self.options.save:
            return place
        suffix = "".join(Path(answer["victim"]).suffixes[-1:])
        told = f"{answer['was']}{answer['layout'] or ''}".encode()
        name = f"{request['kind']}-{hashlib.sha256(content + told).hexdigest()[:8]}{suffix}"
        facts = {"file": name, "kind": request["kind"], "seed": answer["seed"], "victim": answer["victim"],
                 "arguments": answer["arguments"], "rehash": answer["rehash"], "was": answer["was"],
                 **({"layout": answer["layout"]} if answer["layout"] else {})}
        with self.lock:
            self.options.save.mkdir(exist_ok=True)
            (self.options.save / name).write_bytes(content)
            with open(self.options.save / "index.jsonl", "a", encoding="utf-8") as file:
                file.write(json.dumps(facts) + "\n")
        return f"{name} ({place})"


def index(folder: Path) -> list[dict]:
    """What a folder of kept cases holds."""
    file = folder / "index.jsonl"
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []


def settle() -> int:
    """Moves what is mended from `pending` to `corpus`."""
    worker, left = Worker(), []
    for entry in index(PENDING):
        answer = worker.run({"entry": entry, "path": str(PENDING / entry["file"])})
        print(f"{entry['file']}: {answer['was'] or 'mended'}")
        if answer["outcome"] in ("finding", "large"):
            left.append(entry)
            continue
        (PENDING / entry["file"]).rename(CORPUS / entry["file"])
        with open(CORPUS / "index.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
    (PENDING / "index.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in left), encoding="utf-8")
    worker.close()
    return 0


def _content(request: dict, worker: Worker) -> bytes | None:
    answer = worker.run(request | {"only_make": True})
    return bytes.fromhex(answer["content"]) if "content" in answer else None


def _options():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kinds", type=lambda text: text.split(","), default=list(KINDS), help=",".join(KINDS))
    parser.add_argument("--replay", type=lambda text: Path(text).resolve(), action="append", metavar="FOLDER",
                        help="Run the cases kept there instead.")
    parser.add_argument("--save", type=Path, default=CORPUS, help="Where findings are kept.")
    parser.add_argument("--no-save", dest="save", action="store_const", const=None)
    parser.add_argument("--settle", action="store_true", help="Move what is mended from pending to corpus.")
    parser.add_argument("--verbose", action="store_true", help="Show what a finding printed.")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
