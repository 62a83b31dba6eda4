"""What schemathesis is told about this API: SCHEMATHESIS_HOOKS in test/e2e/schemathesis.ts loads it."""

import atexit
import json
import os
from collections import Counter

import schemathesis

REPORT = os.environ["SCHEMATHESIS_COUNTS"]
# Documents that are there in the beginning, so that not every id is one of nothing.
STANDING = "standing"
# Texts of a parameter whose grammar is told in words and not in its schema.
MEANT = {
    "filter": ['{"session_id":"s"}', '{"$or":[{"status":{"$in":["pending"]}},{"progress":{"$gte":5}}]}', "{}"],
    "created_after": ["2024-02-29T00:00:00Z", "2024-02-29"],
    "created_before": ["2999-01-01T00:00:00.000Z"],
    "fields": ["id,session_id", "input_data.a"],
    "sort_by": ["updated_at", "session_id"],
    "since": [],
    "cursor": [],
}

# Conditions that hold for nothing that is made up.
CONDITIONS = {"if-match", "if-none-match", "x-dualstore-wait-for"}

calls = 0
statuses = Counter()


@schemathesis.serializer("application/x-ndjson")
def lines(ctx, value):
    if isinstance(value, (bytes, str)):
        return value
    return "\n".join(json.dumps(line) for line in (value if isinstance(value, list) else [value])).encode()


@schemathesis.deserializer("application/x-ndjson")
def text(ctx, response):
    return response.text


@schemathesis.hook
def before_call(ctx, case, **kwargs):
    """Every other request is led past the first checks: to a document that is there, with a query that is meant."""
    global calls
    calls += 1
    # A poll that waits for a change, which nobody makes meanwhile.
    if "wait" in (case.query or {}) and isinstance(case.query["wait"], (int, float)):
        case.query["wait"] = min(case.query["wait"], 0.05)
    if calls % 2 == 0:
        return
    if case.path_parameters and "id" in case.path_parameters:
        case.path_parameters["id"] = STANDING
    for name in [name for name in case.headers or {} if name.lower() in CONDITIONS]:
        del case.headers[name]
    for name in list(case.query or {}):
        if name in MEANT:
            choice = MEANT[name]
            if choice:
                case.query[name] = choice[calls // 2 % len(choice)]
            else:
                del case.query[name]


@schemathesis.hook
def after_call(ctx, case, response):
    statuses[str(response.status_code)] += 1
    if sum(statuses.values()) % 100 == 0:
        write()


def write():
    with open(REPORT, "w", encoding="utf-8") as file:
        json.dump(statuses, file)


atexit.register(write)
